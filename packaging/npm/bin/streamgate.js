#!/usr/bin/env node
// Starts the program of this platform's package: same arguments, same standard streams, same exit status. Downloads nothing.
"use strict";

const { spawn } = require("node:child_process");
const os = require("node:os");

const platform = `${process.platform}-${process.arch}`;
const name = `@streamgate/${platform}`;

function program() {
  try {
    return require.resolve(`${name}/streamgate`);
  } catch {
    const known = Object.keys(require("../package.json").optionalDependencies);
    const advice = known.includes(name)
      ? `its package ${name} is not installed; install again without --omit=optional or --no-optional`
      : `there is no package for ${platform}, only ${known.join(", ")}; other ways to install are in the manual`;
    process.stderr.write(`streamgate: ${advice}\n`);
    process.exit(1);
  }
}

const child = spawn(program(), process.argv.slice(2), { stdio: "inherit" });
child.on("error", (error) => {
  process.stderr.write(`streamgate: ${error.message}\n`);
  process.exit(1);
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"]) {
  process.on(signal, () => {
    // A terminal sends Ctrl-C to the whole group: a second one would end the program's shutdown delay.
    if (signal !== "SIGINT" || !process.stdin.isTTY) child.kill(signal);
  });
}
child.on("exit", (code, signal) => process.exit(signal ? 128 + os.constants.signals[signal] : code));
