// Prints what the official parser has against an AsyncAPI document, one line each.
const { Parser } = require('@asyncapi/parser');

(async () => {
  const { document, diagnostics } = await new Parser().parse(require('fs').readFileSync(process.argv[2], 'utf8'));
  for (const { severity, code, path, message } of diagnostics) console.log(severity, code, path.join('.'), message);
  process.exit(document ? 0 : 1);
})();
