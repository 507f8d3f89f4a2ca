// Metrics and thresholds as k6 defines them: counters, rates and trends, by metric or by scenario.

// The values of a metric.
export function values(type, samples) {
  const sum = samples.reduce((total, value) => total + value, 0);
  if (type === 'Counter') return { count: sum };
  if (type === 'Rate') {
    const passes = samples.filter((value) => value !== 0).length;
    return { rate: samples.length ? passes / samples.length : 0, passes, fails: samples.length - passes };
  }
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (percent) => {
    if (sorted.length === 0) return 0;
    const place = (percent / 100) * (sorted.length - 1);
    const low = sorted[Math.floor(place)];
    return low + (sorted[Math.ceil(place)] - low) * (place - Math.floor(place));
  };
  return {
    count: sorted.length, avg: sorted.length ? sum / sorted.length : 0, max: at(100),
    'p(50)': at(50), 'p(95)': at(95), 'p(99)': at(99),
  };
}

const COMPARE = {
  '<': (a, b) => a < b, '<=': (a, b) => a <= b, '>': (a, b) => a > b, '>=': (a, b) => a >= b, '==': (a, b) => a === b,
};

// Whether a threshold such as `p(95)<500` holds for a metric's values.
export function holds(threshold, metric) {
  const found = /^\s*(count|rate|avg|max|p\(\d+\))\s*(<=|>=|==|<|>)\s*([\d.]+)\s*$/.exec(threshold);
  if (!found || !(found[1] in metric)) throw new Error(`threshold ${threshold} does not fit the metric`);
  return COMPARE[found[2]](metric[found[1]], Number(found[3]));
}

// The result of every threshold: { name, threshold, ok, value }.
export function judge(thresholds, types, samples) {
  return Object.entries(thresholds).flatMap(([selector, conditions]) => {
    const [, name, scenario] = /^(\w+)(?:\{scenario:([\w-]+)\})?$/.exec(selector) || [];
    if (!types[name]) throw new Error(`threshold on ${selector}: no such metric`);
    const own = samples.filter((sample) => sample.metric === name && (!scenario || sample.scenario === scenario));
    const metric = values(types[name], own.map((sample) => sample.value));
    return conditions.map((threshold) => ({ name: selector, threshold, ok: holds(threshold, metric), value: metric }));
  });
}
