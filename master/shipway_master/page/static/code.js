// The code of an experiment: its files, what is in them, and all of it as an archive.

import { get, post } from "/page/api.js";
import { button, make } from "/page/dom.js";
import { formatBytes } from "/page/format.js";

const MOST_SHOWN_BYTES = 1 << 20;

/** Fill `details`; its files are asked for when it is opened. */
export function showCode(page, details, id) {
  const tree = make("div", { className: "tree" });
  const shown = make("pre", { tabIndex: 0, hidden: true, id: "file" });
  const download = button("Download all", () => page.act(() => save(id)), { id: "download-code" });
  details.replaceChildren(make("summary", {}, "Code"), download, tree, shown);

  const show = (file) => page.act(async () => {
    const answer = await post(`/experiments/${id}/file`, { path: file.path });
    shown.textContent = new TextDecoder().decode(decode(answer.file));
    shown.hidden = false;
    shown.scrollTop = 0;
  });
  details.addEventListener("toggle", () => {
    if (!details.open || tree.hasChildNodes()) return;
    page.act(async () => {
      const { files } = await get(`/experiments/${id}/file_tree`, page.signal);
      tree.replaceChildren(
        files.length ? drawFiles(files, show) : make("p", { className: "quiet" }, "It has none."),
      );
    });
  });
}

const drawFiles = (files, show) => make("ul", {}, ...files.map((file) => {
  if (file.isDir) return make("li", {}, `${file.name}/`, drawFiles(file.files, show));
  const size = make("span", { className: "quiet" }, ` ${formatBytes(file.contentLength)}`);
  const isShown = file.contentLength <= MOST_SHOWN_BYTES;
  return make("li", {}, isShown ? button(file.name, () => show(file)) : file.name, size);
}));

async function save(id) {
  const { b64Tgz } = await get(`/experiments/${id}/model_def`);
  const address = URL.createObjectURL(new Blob([decode(b64Tgz)], { type: "application/gzip" }));
  make("a", { href: address, download: `experiment-${id}.tar.gz` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000); // the browser reads it after the click
}

const decode = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
