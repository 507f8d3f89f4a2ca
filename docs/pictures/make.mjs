// The pictures: started by `make`, with the program and the folder to write to.

import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const { chromium } = createRequire(new URL("../../tests/browser/", import.meta.url))("playwright-core");
const [, , streamgate, folder] = process.argv;
const KEY = "sg-mine";
const LISTEN = "127.0.0.1:8080";

/** A program's output, once it has what is waited for, or has ended. */
function output(command, args, environment, isEnough) {
  const child = spawn(command, args, { env: { PATH: process.env.PATH, RUST_LOG: "warn", ...environment }, stdio: ["ignore", "pipe", "inherit"] });
  const said = new Promise((resolve) => {
    let out = "";
    child.stdout.on("data", (chunk) => {
      out += chunk;
      if (isEnough(out)) resolve(out);
    });
    child.once("exit", () => resolve(out));
  });
  return { child, said };
}

const escape = (text) => text.replace(/[&<>]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[sign]);

/** Lines of at most `width` characters, broken as a terminal breaks them. */
const wrap = (line, width) => line.match(new RegExp(`.{1,${width}}`, "g")) ?? [""];

/** A terminal as SVG. Lines that begin with `$ ` are typed. */
function terminal(text, width) {
  const lines = text.split("\n").flatMap((line) => wrap(line, width));
  const [size, pad, bar] = [20, 16, 34];
  const high = bar + pad + lines.length * size + pad;
  const wide = Math.ceil(width * 8.43 + 2 * pad);
  const row = (line, at) => {
    const colour = line.startsWith("$ ") ? "#7ee2d1" : "#d7dde4";
    return `<text x="${pad}" y="${bar + pad + (at + 0.7) * size}" fill="${colour}" xml:space="preserve">${escape(line)}</text>`;
  };
  const dots = ["#ff5f57", "#febc2e", "#28c840"].map((colour, at) => `<circle cx="${pad + 6 + at * 20}" cy="17" r="6" fill="${colour}"/>`);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${wide} ${high}" width="${wide}" height="${high}" role="img" aria-label="A terminal with Streamgate">
<rect width="100%" height="100%" rx="10" fill="#11161c"/>
${dots.join("")}
<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="14">
${lines.map(row).join("\n")}
</g>
</svg>
`;
}

const gateway = output(streamgate, ["--listen", LISTEN], { STREAMGATE_KEY: KEY }, (out) => out.includes("curl"));
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
try {
  const first = await gateway.said;
  const curl = first.split("\n").find((line) => line.startsWith("curl"));
  const answer = await output("bash", ["-c", curl.replace("curl -N", "curl -sN")], {}, (out) => out.split("\n\n").length > 5).said;
  const begin = first.split("\n").filter((line) => line.trim() && !line.startsWith("curl")).slice(0, 4).join("\n");
  const events = answer.split("\n\n").slice(0, 6).map((event) => event.replace(/^(data: \{"id":"[^"]*",).*"delta":(\{[^}]*\}).*$/s, '$1 ... "delta":$2 ...')).join("\n");
  writeFileSync(join(folder, "terminal.svg"), terminal(`$ STREAMGATE_KEY=${KEY} streamgate\n${begin}\n\n$ ${curl}\n${events}`, 104));

  const page = await (await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme: "light" })).newPage();
  await page.goto(/http:\S+#key=\S+/.exec(first)[0]);
  await page.fill("#prompt", "Hello");
  await page.press("#prompt", "Enter");
  await page.locator(".message:last-child", { hasText: "simulated upstream" }).waitFor();
  await page.waitForFunction(() => document.querySelectorAll("#raw > li").length > 40);
  await page.screenshot({ path: join(folder, "console.png") });
} finally {
  await browser.close();
  gateway.child.kill();
}
