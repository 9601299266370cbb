// Run pytest in Pyodide: node pyodide.mjs PYODIDE SITE REPO [PYTEST ARGUMENTS]
import { pathToFileURL } from "node:url";

const [pyodide, site, repo, ...args] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(`${pyodide}/pyodide.mjs`).href);
try {
  const python = await loadPyodide({ indexURL: `${pyodide}/` });
  await python.loadPackage(["numpy", "sqlite3"], { messageCallback: () => {} });
  for (const [place, root] of [["/site", site], ["/repo", repo]]) {
    python.FS.mkdirTree(place);
    python.FS.mount(python.FS.filesystems.NODEFS, { root }, place);
  }
  python.globals.set("args", python.toPy(args));
  process.exitCode = python.runPython(`
import sys
sys.path[:0] = ["/repo/tools/wasm", "/site", "/repo"]
import inside
inside.main(args.copy())
`);
} catch (error) {
  // Node.js would show the line of Pyodide that threw it, which is a megabyte long.
  console.error(error.message);
  process.exitCode = 1;
}
