// The examples of README.md: each of them compiles, with the strictest settings that the package itself has.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import ts from "typescript";
import { afterAll, expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
// Below the package, so that imports of React are found.
const FOLDER = `${ROOT}node_modules/.readme`;
const BLOCKS = [...readFileSync(`${ROOT}README.md`, "utf8").matchAll(/^```(tsx?)\n(.*?)^```$/gms)];

afterAll(() => rmSync(FOLDER, { recursive: true, force: true }));

test("the examples compile", () => {
  expect(BLOCKS.length).toBeGreaterThan(6);
  mkdirSync(FOLDER, { recursive: true });
  writeFileSync(`${FOLDER}/package.json`, '{ "type": "module" }');
  const files = BLOCKS.map(([, kind, code], index) => {
    const file = `${FOLDER}/example${index}.${kind}`;
    writeFileSync(file, `${code}\nexport {};\n`);
    return file;
  });
  const settings = ts.readConfigFile(`${ROOT}tsconfig.json`, (path) => ts.sys.readFile(path));
  const { options } = ts.parseJsonConfigFileContent(settings.config, ts.sys, ROOT);
  const paths = { "@streamgate/client": ["./src/index.ts"], "@streamgate/client/react": ["./src/react.ts"] };
  const program = ts.createProgram(files, { ...options, paths });
  const problems = ts.getPreEmitDiagnostics(program).map((problem) => {
    const text = ts.flattenDiagnosticMessageText(problem.messageText, "\n");
    return `${problem.file?.fileName.replace(ROOT, "") ?? ""}: ${text}`;
  });
  expect(problems).toEqual([]);
});
