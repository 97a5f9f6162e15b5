// Makes one report of Allure results: node generate.mjs JOB.json. The job's fields are those of generator.py's Job.
// It asks nothing of the network, and what it writes asks nothing either.

import { randomBytes } from "node:crypto";
import { closeSync, fsyncSync, openSync, readFileSync, writeSync } from "node:fs";
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const job = JSON.parse(await readFile(process.argv[2], "utf8"));
const load = (path) => import(pathToFileURL(join(job.modules, path)).href);
const { AllureReport } = await load("@allurereport/core/dist/index.js");
const { default: Awesome } = await load("@allurereport/plugin-awesome/dist/index.js");
const { InMemoryReportDataWriter } = await load("@allurereport/plugin-awesome/dist/writer.js");
const { PathResultFile } = await load("@allurereport/reader-api/dist/index.js");

// The browser refuses what is not in the file itself, whatever the file's scripts may ask for.
const POLICY = [
  "default-src 'none'",
  "script-src 'unsafe-inline' 'unsafe-eval' data: blob:",
  "style-src 'unsafe-inline' data: blob:",
  "img-src data: blob:",
  "font-src data:",
  "media-src data: blob:",
  "frame-src data: blob:",
  "worker-src data: blob:",
  "connect-src data: blob:",
  "form-action 'none'",
].join("; ");
// The viewer scrolls within itself, and holds a test's page in a frame: on paper that is a first sheet and empty ones. So what
// scrolls grows, the light colours come back, and a copy of the page that breaks between sheets takes the frame's place.
const PAPER = `<style>
      @page { size: A4; margin: 10mm; }
      @media print {
        html, body, body div, body main, body section { height: auto !important; max-height: none !important; min-height: 0 !important; overflow: visible !important; }
        body pre, body code, body span { white-space: pre-wrap !important; overflow-wrap: anywhere !important; }
        iframe:has(+ .on-paper) { display: none !important; }
      }
    </style>
    <script>
      (() => {
        const root = document.documentElement;
        let theme;
        addEventListener("beforeprint", () => {
          theme = root.dataset.theme;
          root.dataset.theme = "light";
          for (const frame of document.querySelectorAll("iframe")) {
            const page = frame.contentDocument?.body;
            if (!page) continue;
            const copy = document.createElement("div");
            copy.className = "on-paper";
            copy.attachShadow({ mode: "open" }).innerHTML = "<style>:host { color-scheme: light; color: #111; --color-text-primary: #111; --color-text-secondary: #555; --color-control-bg: #eee } table { table-layout: auto } table { font-size: 10px !important } td, th { white-space: normal !important; padding: 2px 4px !important } tr, img { break-inside: avoid } div, img { color-scheme: light !important }</style>" + page.innerHTML;
            frame.after(copy);
          }
        });
        addEventListener("afterprint", () => {
          root.dataset.theme = theme;
          document.querySelectorAll(".on-paper").forEach((copy) => copy.remove());
        });
      })();
    </script>`;
const HEAD = `<head>\n    <meta http-equiv="Content-Security-Policy" content="${POLICY}">\n    ${PAPER}`;

// The template has two scripts of an analytics service: one that loads it, one that calls it.
const withoutAnalytics = (html) => {
  const start = html.indexOf('<script async src="https://');
  const end = html.indexOf("</script>", html.indexOf("</script>", start) + 1) + "</script>".length;
  const head = html.indexOf("<head>");
  if (start < 0 || head < 0 || end - start > 2000 || html.indexOf('<script async src="https://', end) >= 0) {
    throw new Error("the report's template is not the known one");
  }
  return [html.subarray(0, head), HEAD, html.subarray(head + "<head>".length, start), html.subarray(end)];
};

// The library would hold the content of all that a report embeds several times over, as texts. It gets a mark for each, a
// random number and the content's place, and the content takes the mark's place when the report is written.
const MARK = randomBytes(16).toString("hex");
const DIGITS = 8;
const embedded = new Map();
const keep = (name, content) => embedded.set(name, content);
const json = (data) => Buffer.from(JSON.stringify(data));
Object.assign(InMemoryReportDataWriter.prototype, {
  writeData: async (name, data) => keep(`data/${name}`, json(data)),
  writeWidget: async (name, data) => keep(`widgets/${name}`, json(data)),
  writeTestCase: async (test) => keep(`data/test-results/${test.id}.json`, json(test)),
  writeAttachment: async (name, file) => keep(`data/attachments/${name}`, file.path),
  reportFiles: () =>
    [...embedded.keys()].map((name, place) => ({ name, value: MARK + String(place).padStart(DIGITS, "0") })),
});

const write = (file, data) => {
  const contents = [...embedded.values()];
  let from = 0;
  for (let at = data.indexOf(MARK); at >= 0; at = data.indexOf(MARK, from)) {
    const place = at + MARK.length;
    const content = contents[Number(data.toString("latin1", place, place + DIGITS))];
    writeWhole(file, data.subarray(from, at));
    writeWhole(file, Buffer.from((Buffer.isBuffer(content) ? content : readFileSync(content)).toString("base64"), "latin1"));
    from = place + DIGITS;
  }
  writeWhole(file, data.subarray(from));
};

const writeWhole = (file, data) => {
  for (let done = 0; done < data.length; ) {
    done += writeSync(file, data, done);
  }
};

let failed; // Allure takes no notice of a page that could not be written
const reportFiles = {
  addFile: async (path, data) => {
    if (path.endsWith("index.html")) {
      try {
        const file = openSync(job.output, "wx");
        for (const part of withoutAnalytics(data)) {
          write(file, typeof part === "string" ? Buffer.from(part) : part);
        }
        fsyncSync(file);
        closeSync(file);
      } catch (error) {
        failed = error;
      }
    }
    return path;
  },
};

const hasLabel = (labels, name, value) => labels.some((label) => label.name === name && label.value === value);
const environments = Object.fromEntries(
  job.targets.map((target) => [target, { name: target, matcher: ({ labels }) => hasLabel(labels, "target", target) }]),
);

const report = new AllureReport({
  name: job.name,
  cwd: job.work,
  output: job.work,
  reportFiles,
  plugins: [{ id: "awesome", enabled: true, options: job.options, plugin: new Awesome(job.options) }],
  hideLabels: job.hide,
  categories: job.categories,
  environments,
  historyPath: job.history,
  appendHistory: true,
});

// A file that is read at once: the library's own way, a stream for each, takes half of the time of a large report.
class Whole extends PathResultFile {
  async asBuffer() {
    return readFileSync(this.path);
  }

  async asUtf8String() {
    return readFileSync(this.path, "utf8");
  }

  // pytest 9.1 has allure-pytest begin teardowns that it never ends: those are dropped, which have nothing to show.
  async asJson() {
    const found = JSON.parse(readFileSync(this.path, "utf8"));
    if (Array.isArray(found?.afters)) {
      found.afters = found.afters.filter((one) => one?.status || one?.steps?.length || one?.attachments?.length);
    }
    return found;
  }
}

// What is in the staging folder stands for the file of the same name among the results, and for more.
const staged = new Set(await readdir(job.staged));
const names = new Set([...staged, ...(await readdir(job.results))]);
const queue = [...names].filter((name) => !name.startsWith(".") && !job.skip.includes(name)).sort();
const read = async () => {
  for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
    await report.readResult(new Whole(join(staged.has(name) ? job.staged : job.results, name), name));
  }
};

await report.start();
await Promise.all(Array.from({ length: 32 }, read));
// There is always one more, named "default": it is shown only where a test belongs to it.
const { store } = report;
const every = await store.allEnvironmentIdentities();
const counts = await Promise.all(every.map(async ({ id }) => (await store.testResultsByEnvironmentId(id)).length));
store.allEnvironmentIdentities = async () => every.filter((_, number) => counts[number] > 0);
report.realtimeDispatcher.sendQualityGateResults(job.gate);
await report.done();
if (failed) {
  console.error(failed.message);
  process.exit(1);
}
