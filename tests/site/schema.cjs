// Checks a dynamic file of Traefik against the published JSON Schema of such files, in the form of the types that are
// made from it. In: the file, and the directory with the Node packages. Says what is wrong, one line each.
const fs = require('node:fs');
const path = require('node:path');
const [file, packages] = process.argv.slice(2);
const ts = require(path.join(packages, 'typescript'));
const yaml = require(path.join(packages, 'yaml'));

const value = yaml.parse(fs.readFileSync(file, 'utf8'), { uniqueKeys: true });
const types = '@schemastore/traefik-v3-file-provider';
const text = `import type { HttpsJsonSchemastoreOrgTraefikV3FileProviderJson as File } from '${types}';
export const file: File = ${JSON.stringify(value, null, 1)};
`;

const name = path.join(packages, '..', 'check.ts');
const options = { noEmit: true, strict: true, exactOptionalPropertyTypes: true, types: [] };
const host = ts.createCompilerHost(options);
const { getSourceFile, fileExists, readFile } = host;
host.fileExists = (asked) => asked === name || fileExists(asked);
host.readFile = (asked) => (asked === name ? text : readFile(asked));
host.getSourceFile = (asked, ...more) =>
  asked === name ? ts.createSourceFile(asked, text, ts.ScriptTarget.ES2022) : getSourceFile(asked, ...more);
const program = ts.createProgram([name], options, host);
const found = ts.getPreEmitDiagnostics(program);
for (const problem of found) {
  const line = problem.file?.getLineAndCharacterOfPosition(problem.start).line;
  const said = ts.flattenDiagnosticMessageText(problem.messageText, ' ');
  console.log(`${text.split('\n')[line]?.trim()}: ${said}`);
}
process.exitCode = found.length ? 1 : 0;
