// The cards, and their list: only the rows near the window exist, at the places that they would have.

const GAP = 24; // pixels between two cards

const shownModes = () => (isSheet(state.style) ? [ALL] : state.mode === ALL ? [...data.modes.keys()] : [state.mode]);
const sourceThumb = (image) => (isSheet(state.style) ? [] : [["input", sourceOf(image), whyGone(image)]]);

function mapThumbs(image, out) {
  const [{ name: folder }, several] = [data.outs[out], shownOuts().length > 1];
  const words = sideOf(image, out).set === undefined ? WORDS[statusOf(image, out)] : "Not drawn";
  return shownModes().map((mode) => {
    const name = mode === ALL ? data.styles[state.style].name : data.modes[mode].name;
    const caption = !several || shownModes().length > 1 ? name : mode === ALL ? `${name} \u00b7 ${folder}` : folder;
    return [caption, pictureOf(image, out, mode, state.style, state.target)?.url, words];
  });
}

/** The input and its maps; of two folders with several modes, a row each, and between them which is which. */
function thumbnails(image) {
  const [first, ...others] = shownOuts().map((out) => mapThumbs(image, out));
  const key = first.length > 1 ? [["", null, others.length ? `${data.outs[0].name} above, ${data.outs[1].name} here` : ""]] : [];
  const all = [...sourceThumb(image), ...first, ...others.flatMap((maps) => [...key, ...maps])];
  return all.map(([name, url, missing]) => {
    const content = url ? imageOf(url, "", missing, { loading: "lazy" }) : make("span", { className: "absent" }, missing);
    return make("span", { className: `thumb${name ? "" : " key"}` }, content, make("span", { className: "caption" }, name));
  });
}

const line = (className, left, right) =>
  make("span", { className: `line ${className}` }, left, make("span", { className: "figure" }, right));

/** What an output folder says of an image, in words. */
function verdictOf(image, out) {
  const target = targetOf(image, out, state.target);
  const [status, failed] = [statusOf(image, out), isFailure(image, out)];
  const [kind, message] = sideOf(image, out).error ?? ["", status === "missing" ? "Its pictures are gone; run explain again." : ""];
  if (failed || !target) return { title: WORDS[status], kind, message, failed };
  const probability = target.probability === null ? "" : percent(target.probability);
  return { title: target.label, score: number(target.score), probability, wrong: isRight(image, out) === false };
}

function verdictLine(image, out) {
  const { title, score, probability, failed, wrong } = verdictOf(image, out);
  const label = make("bdi", { className: `label${failed ? " bad" : ""}` }, title);
  if (shownOuts().length > 1) label.prepend(make("small", {}, `${data.outs[out].name}: `));
  if (wrong) label.append(make("span", { className: "wrong" }, ` \u2260 ${image.truth}`));
  const also = shownOuts().length > 1 && probability ? make("small", {}, ` \u00b7 ${probability}`) : "";
  return line("", label, score ? make("span", {}, make("small", {}, "score "), score, also) : "");
}

/** For who hears the page. */
function saidOf(image, out) {
  const { title, score, probability, message, wrong } = verdictOf(image, out);
  const folder = shownOuts().length > 1 ? `in ${data.outs[out].name} ` : "";
  const words = [folder + title, score && `score ${score}`, probability, wrong && `wrong: its folder says ${image.truth}`, message];
  return words.filter(Boolean).join(", ");
}

function card(at, low) {
  const image = images[at];
  const outs = shownOuts();
  const { title, kind, message, probability } = verdictOf(image, outs[0]);
  const file = make("bdi", { className: "file", title: givenName(image) }, image.name);
  const note = () => make("span", { className: "note" }, make("b", {}, kind || title), make("span", {}, message));
  const status = statusOf(image, outs[0]);
  const drawn = outs.some((out) => targetOf(image, out, state.target));
  return make(
    "button",
    {
      type: "button",
      className: `card ${status}${low ? " low" : ""}`,
      tabIndex: -1,
      "aria-label": `${image.name}: ${outs.map((out) => saidOf(image, out)).join("; ")}`,
    },
    drawn ? make("span", { className: "thumbs" }, ...thumbnails(image)) : note(),
    ...(low ? [] : outs.map((out) => verdictLine(image, out))),
    line("small", file, outs.length > 1 ? "" : (probability ?? "")),
  );
}


const live = new Map(); // place in `shown` -> its <li>
let bands = []; // low cards, then cards with thumbnails: {from, to, columns, width, height, top}

const rowsOf = (band) => Math.ceil((band.to - band.from) / band.columns);
const bandOf = (i) => bands.find((band) => i < band.to) ?? bands.at(-1);

function measure() {
  const across = list.clientWidth;
  const panel = isSheet(state.style);
  const aspect = Math.min(Math.max(data.styles[state.style]?.aspect ?? 1, 0.7), panel ? 4 : 1.5);
  const modes = shownModes().length;
  const several = shownOuts().length > 1;
  const thumbs = panel ? 1 : several && modes > 1 ? modes + 1 : modes * shownOuts().length + 1; // beside each other
  const rows = (panel || modes > 1) && several ? shownOuts().length : 1;
  const captioned = thumbs * rows > 2 || (panel && several);
  const ideal = panel ? 480 : thumbs > 2 ? Math.min(Math.max(115 * aspect, 100), 140) : Math.min(Math.max(140 * aspect, 120), 190);
  bands = [];
  const low = band(0, bare, across, 300, Infinity);
  const tall = band(bare, shown.length, across, Math.max(thumbs * ideal, 240), Math.max(shown.length - bare, 2));
  const beside = rows === 1 && thumbs > 2 && tall.width / thumbs < 96 ? Math.ceil(thumbs / 2) : thumbs;
  list.style.setProperty("--beside", beside);
  list.style.setProperty("--tall", `${Math.round((tall.width - 3 * (beside - 1)) / beside / aspect)}px`);
  list.style.setProperty("--rows", rows * Math.ceil(thumbs / beside));
  list.style.setProperty("--captioned", captioned ? 1 : 0);
  list.classList.toggle("captioned", captioned);
  for (const each of [low, tall]) {
    if (each.to === each.from) continue;
    each.top = bands.length ? bands[0].top + rowsOf(bands[0]) * bands[0].height + GAP : 0;
    bands.push(each);
    const sample = item(each.from);
    list.append(sample);
    each.height = sample.offsetHeight + (each === low ? GAP / 2 : GAP);
    sample.remove();
  }
}

function band(from, to, across, least, most) {
  const columns = Math.max(1, Math.min(Math.floor((across + GAP) / (least + GAP)), most));
  return { from, to, columns, width: Math.floor((across - GAP * (columns - 1)) / columns), height: 1, top: 0 };
}

function item(i) {
  const { from, columns, width, height, top } = bandOf(i);
  const node = make("li", { "aria-setsize": shown.length, "aria-posinset": i + 1 }, card(shown[i], i < bare));
  node.firstChild.dataset.at = i;
  node.style.width = `${width}px`;
  const [row, column] = [Math.floor((i - from) / columns), (i - from) % columns];
  node.style.transform = `translate(${column * (width + GAP)}px, ${top + row * height}px)`;
  return node;
}

/** The places whose rows lie between two heights, in pixels from the top of the list. */
function between(above, below) {
  const places = [];
  for (const { from, to, columns, height, top } of bands) {
    const first = from + Math.max(0, Math.floor((above - top) / height)) * columns;
    const end = Math.min(to, from + Math.ceil((below - top) / height) * columns);
    for (let i = first; i < end; i++) places.push(i);
  }
  return places;
}

function draw() {
  const above = -list.getBoundingClientRect().top;
  const last = bands.at(-1);
  list.style.height = last ? `${last.top + rowsOf(last) * last.height - GAP}px` : "0";
  const focused = document.activeElement?.closest("#list li");
  const wanted = new Set(between(above - innerHeight, above + 2 * innerHeight));
  for (const [i, node] of live) {
    if (wanted.has(i)) continue;
    if (node === focused) wanted.add(i);
    else {
      node.remove();
      live.delete(i);
    }
  }
  if (!focused && !wanted.has(current)) current = between(above, above + innerHeight)[0] ?? 0;
  let after = null; // elements stay in the order of the images, for readers that follow it
  for (const i of [...wanted].sort((a, b) => b - a)) {
    if (!live.has(i)) {
      live.set(i, item(i));
      list.insertBefore(live.get(i), after);
    }
    after = live.get(i);
    after.firstChild.tabIndex = i === current ? 0 : -1;
  }
}

function redraw() {
  live.clear();
  list.replaceChildren();
  measure();
  draw();
  remember();
}

/** How much of the window the head covers, where it stays in sight. */
const headHeight = () => (getComputedStyle(byId("top")).position === "sticky" ? byId("top").offsetHeight : 0);

/** After another filter or order: from the top again. */
function refresh() {
  select();
  redraw();
  const top = list.getBoundingClientRect().top - headHeight();
  if (top < 0) scrollBy(0, top - GAP);
  draw();
}

function goTo(i) {
  if (!shown.length) return;
  current = Math.min(Math.max(0, i), shown.length - 1);
  const { from, columns, height, top: start } = bandOf(current);
  const top = list.getBoundingClientRect().top + start + Math.floor((current - from) / columns) * height;
  const head = headHeight();
  if (top < head + GAP) scrollBy(0, top - head - GAP);
  else if (top + height > innerHeight) scrollBy(0, top + height - innerHeight);
  draw();
  live.get(current).firstChild.focus({ preventScroll: true });
  draw();
}

/** The place below or above, as near as the rows allow. */
function vertical(by) {
  const here = bandOf(current);
  const column = (current - here.from) % here.columns;
  const inside = current + by * here.columns;
  if (by < 0 ? inside >= here.from : inside < here.to) return inside;
  const row = Math.floor((current - here.from) / here.columns);
  if (by > 0 && row < rowsOf(here) - 1) return here.to - 1;
  const next = bands[bands.indexOf(here) + by];
  if (!next) return current;
  const start = by > 0 ? next.from : next.from + (rowsOf(next) - 1) * next.columns;
  return Math.min(start + Math.floor((column / here.columns) * next.columns), next.to - 1);
}

list.addEventListener("click", (event) => {
  const found = event.target.closest(".card");
  if (found) open(Number(found.dataset.at));
});
list.addEventListener("focusin", (event) => {
  const found = event.target.closest(".card");
  if (found) current = Number(found.dataset.at);
});
list.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const moves = {
    ArrowRight: () => current + 1,
    ArrowLeft: () => current - 1,
    ArrowDown: () => vertical(1),
    ArrowUp: () => vertical(-1),
    Home: () => 0,
    End: () => shown.length - 1,
  };
  if (!(event.key in moves)) return;
  event.preventDefault();
  goTo(moves[event.key]());
});

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address holds what is chosen
  list.focus();
  goTo(current);
});

let asked = false;
const soon = (act) => () => {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    act();
  });
};
addEventListener("scroll", soon(draw), { passive: true });
let across = 0;
function fit() {
  if (box.open) return; // without the page's scroll bar the width is another
  if (list.clientWidth === across) return draw();
  across = list.clientWidth;
  redraw();
}
new ResizeObserver(fit).observe(document.documentElement);
