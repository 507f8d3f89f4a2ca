// The module `k6/metrics`: every value goes to the main thread, which sums and judges them.
class Metric {
  constructor(name) {
    this.name = name;
    globalThis.__declare(name, this.constructor.name);
  }

  add(value) {
    const number = Number(value);
    if (!Number.isFinite(number)) throw new Error(`${this.name}: ${value} is no number`);
    globalThis.__sample(this.name, number);
  }
}

export class Counter extends Metric {}
export class Rate extends Metric {}
export class Trend extends Metric {}
