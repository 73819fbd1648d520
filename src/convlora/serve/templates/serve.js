const find = (id) => document.getElementById(id);
const RUNS = JSON.parse(find("facts").textContent);
const HALF = 128; // of 256 levels: a pixel is foreground if its probability is above level / 256
const cards = [];
let busy = false;
let level = HALF;

const chosenRun = () => RUNS.find((run) => run.name === (find("run") ? find("run").value : RUNS[0].name));
const chosenView = () => document.querySelector("input[name=view]:checked").value;
const colourOf = (text) => [1, 3, 5].map((place) => parseInt(text.slice(place, place + 2), 16));
const bytesOf = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
const percent = (share) => (100 * share).toFixed(share > 0 && share < 0.001 ? 3 : 1) + "%";

function describeRun() {
  const run = chosenRun();
  const parts = [`${run.base_model}, ${run.method}, ${run.image_size[1]} x ${run.image_size[0]} pixels`];
  const name = run.scores && run.scores.miou != null ? "miou" : "iou", score = run.scores && run.scores[name];
  if (score != null) parts.push(`${name === "miou" ? "mean IoU" : "IoU"} ${score.toFixed(3)} on its ${run.scores_of === "test" ? "test" : "validation"} images`);
  find("about").textContent = (RUNS.length > 1 ? "" : run.name + ": ") + parts.join("; ");
  find("threshold-part").hidden = !run.has_probability;
  const best = run.best_threshold;
  find("threshold-note").textContent = best == null || Math.abs(best - 0.5) < 0.005 ? "" :
    `The validation images of this run prefer ${best.toFixed(2)}.`;
}

function addFiles(files) {
  for (const file of [...files].reverse()) { // so that the first comes to stand on top
    const part = find("card").content.firstElementChild.cloneNode(true);
    const card = { file, part, state: "waiting" };
    part.querySelector("h2").textContent = file.name;
    part.querySelector(".remove").onclick = () => remove(card);
    part.querySelector(".remove").setAttribute("aria-label", `Remove ${file.name}`);
    part.querySelector(".save-mask").onclick = () => saveMask(card);
    part.querySelector(".save-overlay").onclick = () => saveOverlay(card);
    cards.unshift(card);
    find("results").prepend(part);
  }
  find("tools").hidden = cards.length === 0;
  work();
}

function remove(card) {
  cards.splice(cards.indexOf(card), 1);
  card.part.remove();
  find("tools").hidden = cards.length === 0;
  find("files").focus();
}

async function work() {
  if (busy) return;
  busy = true;
  for (let left; (left = cards.filter((one) => one.state === "waiting")).length; ) {
    const card = left[0];
    find("status").textContent = `Segmenting ${card.file.name}` + (left.length > 1 ? `; ${left.length - 1} more wait` : "");
    card.state = "working";
    const message = card.part.querySelector(".busy");
    message.textContent = "Segmenting ...";
    message.className = "busy";
    message.removeAttribute("role");
    message.hidden = false;
    try {
      await segment(card, chosenRun());
      if (card.state === "working") card.state = "done";
      message.hidden = true;
      card.part.querySelector(".done").hidden = false;
      draw(card);
    } catch (error) {
      if (card.state === "working") card.state = "failed";
      card.part.querySelector(".done").hidden = true;
      message.textContent = error.message;
      message.className = "busy error";
      message.setAttribute("role", "alert");
    }
  }
  busy = false;
  const done = cards.filter((card) => card.state === "done").length;
  find("status").textContent = done ? `${done} ${done > 1 ? "images" : "image"} segmented.` : "";
}

async function ask(file, run) {
  const form = new FormData();
  form.append("image", file, file.name);
  const address = new URLSearchParams({ run: run.name, format: "json", polygons: "false" });
  for (const name of ["mask", "layers", "preview"]) address.append("picture", name);
  for (let tries = 1; ; tries++) {
    let answer;
    try {
      answer = await fetch(`v1/segment?${address}`, { method: "POST", body: form });
    } catch {
      throw new Error("The server does not answer. Is it still running?");
    }
    if (answer.ok) return answer.json();
    if (answer.status === 503 && tries < 5) {
      await new Promise((next) => setTimeout(next, 1000 * (Number(answer.headers.get("Retry-After")) || 2)));
      continue;
    }
    const problem = await answer.json().catch(() => ({}));
    throw new Error(problem.detail || `The server answered with an error (${answer.status}).`);
  }
}

async function segment(card, run) {
  const answer = await ask(card.file, run);
  const { width, height } = answer;
  const layers = await decode(answer.pictures.layers, "image/png");
  const preview = await decode(answer.pictures.preview, "image/jpeg");
  const values = new Uint16Array(width * height);
  const levels = run.has_probability ? new Uint8Array(width * height) : null;
  eachTile(layers, (data, left, top, wide, high) => {
    for (let y = 0, from = 0; y < high; y++) {
      for (let x = 0, to = (top + y) * width + left; x < wide; x++, from += 4, to++) {
        values[to] = data[from] + 256 * data[from + 1];
        if (levels) levels[to] = data[from + 2];
      }
    }
  });
  layers.close();
  Object.assign(card, { run, width, height, values, levels, answer, mask: bytesOf(answer.pictures.mask) });
  if (levels) { // how many pixels have each level, so that shares follow the slider
    card.histogram = new Float64Array(256);
    for (let place = 0; place < values.length; place++) if (values[place] < 2) card.histogram[levels[place]]++;
  }
  const pixels = new Uint8ClampedArray(4 * preview.width * preview.height);
  eachTile(preview, (data, left, top, wide, high) => {
    for (let y = 0; y < high; y++) pixels.set(data.subarray(4 * y * wide, 4 * (y + 1) * wide), 4 * ((top + y) * preview.width + left));
  });
  card.small = shrink(card, preview.width, preview.height);
  card.picture = new ImageData(pixels, preview.width, preview.height);
  preview.close();
}

function decode(text, type) {
  return createImageBitmap(new Blob([bytesOf(text)], { type }), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
}

// A canvas of the size of a large image may be more than a browser has.
function eachTile(bitmap, use) {
  const canvas = document.createElement("canvas");
  const side = 2048;
  canvas.width = Math.min(side, bitmap.width);
  canvas.height = Math.min(side, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  for (let top = 0; top < bitmap.height; top += side) {
    for (let left = 0; left < bitmap.width; left += side) {
      const wide = Math.min(side, bitmap.width - left), high = Math.min(side, bitmap.height - top);
      context.drawImage(bitmap, left, top, wide, high, 0, 0, wide, high);
      use(context.getImageData(0, 0, wide, high).data, left, top, wide, high);
    }
  }
}

function shrink(card, width, height) {
  const values = new Uint16Array(width * height), levels = card.levels ? new Uint8Array(width * height) : null;
  for (let y = 0, to = 0; y < height; y++) {
    const row = Math.floor(((y + 0.5) * card.height) / height) * card.width;
    for (let x = 0; x < width; x++, to++) {
      const from = row + Math.floor(((x + 0.5) * card.width) / width);
      values[to] = card.values[from];
      if (levels) levels[to] = card.levels[from];
    }
  }
  return { width, height, values, levels };
}

// The classes at the chosen threshold.
function classesOf({ values, levels }) {
  if (!levels) return values;
  const classes = new Uint16Array(values.length);
  for (let place = 0; place < values.length; place++) {
    classes[place] = values[place] > 1 ? values[place] : levels[place] >= level ? 1 : 0;
  }
  return classes;
}

function sharesOf(card) {
  if (!card.histogram) return card.answer.classes;
  let inside = 0, all = 0;
  card.histogram.forEach((count, number) => { all += count; if (number >= level) inside += count; });
  const pixels = [all - inside, inside];
  return card.answer.classes.map((one, index) => ({ ...one, pixels: pixels[index], share: pixels[index] / Math.max(1, all) }));
}

function paint(card, view) {
  const { width, height } = card.small;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const drawn = new ImageData(new Uint8ClampedArray(card.picture.data), width, height);
  if (view !== "image") {
    const classes = classesOf(card.small), data = drawn.data;
    const colours = card.run.classes.map((one) => colourOf(one.color));
    const border = Math.max(1, Math.round(Math.min(width, height) / 400));
    for (let y = 0, place = 0; y < height; y++) {
      for (let x = 0; x < width; x++, place++) {
        const index = classes[place], colour = colours[index];
        if (view === "mask") {
          data.set(colour || [255, 255, 255], 4 * place);
          continue;
        }
        if (!colour || index === card.run.background) continue;
        const edge = (x >= border && classes[place - border] !== index) || (x + border < width && classes[place + border] !== index) ||
          (y >= border && classes[place - border * width] !== index) || (y + border < height && classes[place + border * width] !== index);
        for (let part = 0; part < 3; part++) {
          data[4 * place + part] = edge ? colour[part] : 0.55 * data[4 * place + part] + 0.45 * colour[part];
        }
      }
    }
  }
  canvas.getContext("2d").putImageData(drawn, 0, 0);
  return canvas;
}

function draw(card) {
  if (!card.answer) return;
  const view = chosenView(), painted = paint(card, view);
  const canvas = card.part.querySelector("canvas");
  canvas.width = painted.width;
  canvas.height = painted.height;
  canvas.getContext("2d").drawImage(painted, 0, 0);
  const shares = sharesOf(card), present = shares.filter((one) => one.pixels > 0 || shares.length === 2);
  canvas.setAttribute("aria-label", `${view} of ${card.file.name}: ` +
    present.map((one) => `${one.name} ${percent(one.share)}`).join(", "));
  card.part.querySelector("caption").textContent = `${card.width} x ${card.height} pixels` +
    (RUNS.length > 1 ? `, ${card.run.name}` : "") + (card.levels ? `, threshold ${(level / 256).toFixed(2)}` : "");
  const body = card.part.querySelector("tbody");
  body.replaceChildren(...present.map((one) => {
    const row = document.createElement("tr"), name = document.createElement("th"), share = document.createElement("td");
    const swatch = document.createElement("i");
    swatch.className = "swatch";
    swatch.style.background = card.run.classes[one.index].color;
    name.scope = "row";
    name.append(swatch, one.name);
    share.className = "n";
    share.textContent = percent(one.share);
    row.append(name, share);
    return row;
  }));
}

function save(blob, card, ending) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = card.file.name.replace(/\.[^.]*$/, "") + ending;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

async function maskOf(card) {
  if (!card.levels || level === HALF) return new Blob([card.mask], { type: "image/png" });
  const palette = new Uint8Array(768).fill(255);
  card.run.classes.forEach((one, index) => palette.set(colourOf(one.color), 3 * index));
  return indexedPng(card.width, card.height, Uint8Array.from(classesOf(card)), palette);
}

async function saveMask(card) {
  save(await maskOf(card), card, ".png");
}

function saveOverlay(card) {
  const picture = paint(card, "overlay"), canvas = document.createElement("canvas");
  const size = Math.max(11, Math.round(Math.min(picture.width, picture.height) / 28));
  const context = canvas.getContext("2d");
  const entries = sharesOf(card).filter((one) => one.pixels > 0 && one.index !== card.run.background)
    .map((one) => ({ text: `${one.name} ${percent(one.share)}`, colour: card.run.classes[one.index].color }));
  context.font = `${size}px sans-serif`;
  const widths = entries.map((one) => context.measureText(one.text).width + 2.5 * size);
  canvas.width = Math.ceil(Math.max(picture.width, ...widths.map((width) => width + size / 2)));
  let x = size / 2, y = size / 2;
  const places = widths.map((width) => {
    if (x > size / 2 && x + width > canvas.width) { x = size / 2; y += 1.5 * size; }
    const place = [x, y];
    x += width;
    return place;
  });
  canvas.height = picture.height + (entries.length ? Math.ceil(y + 1.5 * size) : 0);
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, 0, 0);
  context.font = `${size}px sans-serif`;
  context.textBaseline = "middle";
  entries.forEach((one, number) => {
    const [left, top] = [places[number][0], picture.height + places[number][1]];
    context.fillStyle = one.colour;
    context.fillRect(left, top, size, size);
    context.strokeStyle = "#5a5a5a";
    context.strokeRect(left + 0.5, top + 0.5, size - 1, size - 1);
    context.fillStyle = "black";
    context.fillText(one.text, left + 1.4 * size, top + size / 2);
  });
  canvas.toBlob((blob) => save(blob, card, "_overlay.png"), "image/png");
}

function setLevel(value) {
  level = Number(value);
  find("threshold").value = level;
  find("threshold-value").textContent = (level / 256).toFixed(2);
  find("threshold").setAttribute("aria-valuetext", (level / 256).toFixed(2));
  for (const card of cards) if (card.levels) draw(card);
}

find("files").addEventListener("change", (event) => {
  addFiles(event.target.files);
  event.target.value = "";
});
for (const name of ["dragover", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    find("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") addFiles(event.dataTransfer.files);
  });
}
document.addEventListener("dragleave", () => find("drop").classList.remove("over"));
document.addEventListener("paste", (event) => addFiles(event.clipboardData.files));
find("threshold").addEventListener("input", (event) => setLevel(event.target.value));
find("reset").addEventListener("click", () => setLevel(HALF));
for (const one of document.querySelectorAll("input[name=view]")) one.addEventListener("change", () => cards.forEach(draw));
if (find("run")) {
  find("run").addEventListener("change", () => {
    describeRun();
    for (const card of cards) card.state = "waiting";
    work();
  });
}
describeRun();
