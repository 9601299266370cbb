// Python with zarr_core, in a thread of the browser.
importScripts("pyodide/pyodide.js");

const started = (async () => {
  const python = await loadPyodide();
  await python.loadPackage("numpy");
  for (const codecs of ["zstandard", "numcodecs"]) {
    try {
      await python.loadPackage(codecs);
    } catch {} // a Pyodide without it: chunks that need it say so
  }
  const packages = await (await fetch("packages.zip")).arrayBuffer();
  python.unpackArchive(packages, "zip", { extractDir: "/packages" });
  await python.runPythonAsync(await (await fetch("show.py")).text());
  return python.globals;
})();

onmessage = async ({ data: { data, array } }) => {
  try {
    const python = await started;
    if (data) {
      postMessage({ status: `Opening ${data} …` });
      const arrays = python.get("open_data")(data).toJs();
      postMessage({ arrays, status: `${arrays.length} array(s) in ${data}` });
      return;
    }
    const [info, height, width, pixels] = python.get("show")(array).toJs();
    const picture = new ImageData(new Uint8ClampedArray(pixels), width, height);
    postMessage({ info, picture });
  } catch (error) {
    const lines = error.message.trim().split("\n");
    postMessage({ status: lines[lines.length - 1] });
  }
};
