// Run by node: starts Python as a page would, imports weighbridge, and writes its memory to a file.
//
//   node snapshot.mjs PYODIDE-FOLDER PACKAGE.zip OUT BEGIN
//
// A page that begins with that memory begins with everything imported. The standard library is
// compiled first and started from that, so that no left-overs of the compiler lie in the memory.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, archive, out, begin] = process.argv.slice(2);
const at = (name) => pathToFileURL(join(folder, name)).href;
const { loadPyodide } = await import(at("pyodide.mjs"));
const PLACE = "/lib/weighbridge"; // where worker.js puts the package
const { info } = JSON.parse(readFileSync(join(folder, "pyodide-lock.json"), "utf8"));
const lockFileContents = { info, packages: {} }; // nothing is loaded but what is here
const env = { HOME: "/home/page", PYTHONHASHSEED: "0", PYTHONDONTWRITEBYTECODE: "1" };

const COMPILE = `
import importlib._bootstrap_external as outer
import importlib.util
import zipfile

def compiled(source, target, place):
    with zipfile.ZipFile(source) as given, zipfile.ZipFile(target, "w") as made:
        for name in sorted(given.namelist()):
            data = given.read(name)
            if name.endswith(".py"):
                code = compile(data, f"{place}/{name}", "exec", dont_inherit=True, optimize=0)
                data = outer._code_to_hash_pyc(code, importlib.util.source_hash(data), False)
                name += "c"
            made.writestr(zipfile.ZipInfo(name), data)

library = f"/lib/python{sys.version_info.major}{sys.version_info.minor}.zip"
compiled(library, "/library.zip", library)
compiled("/package.zip", "/compiled.zip", PLACE)
`;

// A page has the same modules uncompiled: what Python knows of files is read anew there.
const FORGET = `
import zipimport
sys.path_importer_cache.clear()
zipimport._zip_directory_cache.clear()
`;

async function compiled() {
  const python = await loadPyodide({ env, lockFileContents });
  python.FS.writeFile("/package.zip", readFileSync(archive));
  python.runPython(`import sys\nPLACE = ${JSON.stringify(PLACE)}\n${COMPILE}`);
  return ["/library.zip", "/compiled.zip"].map((path) => python.FS.readFile(path));
}

async function main() {
  const [library, ours] = await compiled();
  const path = `${out}.library`;
  writeFileSync(path, library);
  const python = await loadPyodide({ env, lockFileContents, stdLibURL: path, _makeSnapshot: true });
  python.FS.mkdirTree(PLACE);
  python.unpackArchive(ours, "zip", { extractDir: PLACE });
  python.runPython(`import sys\nsys.path.insert(0, ${JSON.stringify(PLACE)})\n${begin}\n${FORGET}`);
  writeFileSync(out, python.makeMemorySnapshot());
}

function fail(error) {
  console.error(String(error.message ?? error).trim().split("\n").slice(-8).join("\n"));
  process.exit(1);
}

process.on("uncaughtException", fail);
main().then(() => process.exit(0), fail);
