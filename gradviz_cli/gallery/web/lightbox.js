// One image at a time.

function open(i) {
  write(); // what Back comes back to
  look.at = i;
  for (const name of ["mode", "style", "target"]) look[name] = looksFirst(name);
  opened();
  enter();
}

/** What the list shows of the image; of all modes the first that it has. */
function looksFirst(name) {
  if (name !== "mode" || state.mode !== ALL) return state[name];
  const image = images[shown[look.at]];
  const has = (mode) => shownOuts().some((out) => pictureOf(image, out, mode, state.style, state.target));
  return Math.max(0, [...data.modes.keys()].findIndex(has));
}

/** Show what is looked at. */
function opened() {
  zoomChoice();
  show();
  if (!box.open) box.showModal();
  byId("box-title").focus();
}

function step(by) {
  const to = Math.min(Math.max(0, look.at + by), shown.length - 1);
  if (to === look.at) return;
  look.at = to;
  show();
}

/** What a folder says of the image that is looked at. */
function lookedAt(image, out) {
  const target = targetOf(image, out, look.target);
  return isFailure(image, out) || !target ? WORDS[statusOf(image, out)] : target.label;
}

function show() {
  const image = images[shown[look.at]];
  const outs = shownOuts();
  const titles = [...new Set(outs.map((out) => lookedAt(image, out)))];
  byId("box-title").replaceChildren(make("bdi", {}, titles.join(" / ")));
  box.classList.toggle("failure", outs.some((out) => isFailure(image, out)));
  byId("box-name").replaceChildren(make("bdi", {}, givenName(image)));
  verdicts(image, outs);
  byId("box-place").textContent = `${(look.at + 1).toLocaleString("en")} of ${shown.length.toLocaleString("en")}`;
  byId("previous").setAttribute("aria-disabled", look.at === 0);
  byId("next").setAttribute("aria-disabled", look.at === shown.length - 1);
  byId("figures").replaceChildren(...outs.flatMap((out) => figures(image, out)));
  stage(image);
  strip(image);
  lookChoices(image);
  byId("facts").replaceChildren(...outs.flatMap((out) => facts(image, out)), ...sharedFacts(image));
  for (const near of [look.at - 1, look.at + 1]) preload(images[shown[near]]);
  remember();
}

/** Whether the class is the one that the folder is named after. */
function verdicts(image, outs) {
  const known = outs.map((out) => isRight(image, out)).filter((right) => right !== undefined);
  const right = known.every(Boolean);
  byId("box-truth").hidden = !known.length;
  byId("box-truth").classList.toggle("wrong", !right);
  byId("box-truth").textContent = `${right ? "\u2713 Right" : "\u2260 Wrong"}: its folder says ${image.truth}`;
}

const inFolder = (out) => (shownOuts().length > 1 ? [make("p", { className: "of" }, data.outs[out].name)] : []);

function figures(image, out) {
  const target = targetOf(image, out, look.target);
  if (!target) return [];
  const all = [
    ["Score", number(target.score)],
    ["Probability", target.probability === null ? null : percent(target.probability)],
    ["Rank", target.rank === null ? null : target.rank + 1],
  ].filter(([, value]) => value !== null);
  return [...inFolder(out), ...all.map(([title, value]) => make("p", {}, make("span", {}, title), make("b", {}, value)))];
}

/** Small pictures of the input and of every mode, to choose among. */
function strip(image) {
  const source = sourceOf(image);
  const tiles = source && !isSheet(look.style) ? [["input", "input", source]] : [];
  for (const [mode, name] of isSheet(look.style) ? [] : modeOptions) {
    const found = shownOuts().map((out) => pictureOf(image, out, mode, look.style, look.target)).find(Boolean);
    if (found) tiles.push([mode, name, found.url]);
  }
  const buttons = tiles.map(([mode, name, url]) => {
    const button = make("button", { type: "button" }, imageOf(url, "", "\u2013"), make("span", {}, name));
    button.dataset.mode = mode;
    button.addEventListener("click", () => {
      if (mode === "input") return setBlend(0);
      look.mode = mode;
      if (blends.get(look.style) === 0) blends.set(look.style, MIXED);
      show();
      byId("strip").querySelector(`[data-mode="${mode}"]`).focus();
    });
    return button;
  });
  byId("strip").replaceChildren(...buttons);
  byId("strip").hidden = buttons.length < 2;
  mix(Number(blend.value));
}

function lookChoices(image) {
  const host = byId("box-choices");
  const focused = host.contains(document.activeElement) ? document.activeElement.name : null;
  const add = (name, title, options) => {
    if (options.length < 2) return [];
    const chosen = (value) => {
      look[name] = value;
      show();
    };
    return [chooser(`box-${name}`, title, options, look[name], chosen, 4)];
  };
  host.replaceChildren();
  if (shownOuts().some((out) => !isBare(image, out))) {
    host.append(...add("style", "Style", styleOptions), ...add("target", "Target", targetOptions));
  }
  if (focused) host.querySelector(`select[name="${focused}"], [name="${focused}"]:checked`)?.focus();
}

// ---- what is known of it

const link = (url, text) => make("a", { href: url, target: "_blank", rel: "noopener" }, text);
const rows = (all) => all.filter(([, value]) => value).flatMap(([title, value]) => [make("dt", {}, title), make("dd", {}, value)]);

/** In one of the folders. */
function facts(image, out) {
  const picture = pictureOf(image, out, look.mode, look.style, look.target);
  const target = targetOf(image, out, look.target);
  const { error, time, as } = sideOf(image, out);
  const [low, high] = picture?.scale ?? [null, null];
  const unit = data.runs[0]?.facts.unit ?? "";
  const scale = low === null ? null : low === high ? `flat: ${number(low)} everywhere` : `${number(low)} to ${number(high)} ${unit}`;
  return rows([
    ["Folder", shownOuts().length > 1 ? make("b", {}, data.outs[out].name) : null],
    ["Name there", as],
    ["Error", picture && error ? `${error[1]} (${error[0]})` : null],
    ["Class index", target && target.index >= 0 ? `${target.index}` : null],
    ["Scale", scale],
    ["Time", time ? moment(time) : null],
    ["File", picture && !copies ? link(picture.url, shownOuts().length > 1 ? `picture in ${data.outs[out].name}` : "picture") : null],
  ]);
}

/** In both. */
function sharedFacts(image) {
  const [mode, style, source] = [data.modes[look.mode], data.styles[look.style], sourceOf(image)];
  const drawn = shownOuts().some((out) => pictureOf(image, out, look.mode, look.style, look.target));
  const told = mode && [mode.summary, mode.source && `(${mode.source})`].filter(Boolean).join(" ");
  return rows([
    ["Source", source && !copies ? link(source, "image") : null],
    ["Style", drawn && style ? style.summary : null],
    ["Mode", drawn && !isSheet(look.style) ? told : null],
  ]);
}

function preload(image) {
  if (!image || copies) return;
  const maps = shownOuts().map((out) => pictureOf(image, out, look.mode, look.style, look.target)?.url);
  for (const url of [...maps, isSheet(look.style) ? null : sourceOf(image)]) {
    if (url) new Image().src = url;
  }
}

// ---- keys

function cycle(name, options) {
  if (options.length < 2) return;
  look[name] = (look[name] + 1) % options.length;
  show();
}

const ANYWHERE = {
  Home: () => step(-Infinity),
  End: () => step(Infinity),
  n: () => step(1),
  p: () => step(-1),
  m: () => cycle("mode", modeOptions),
  s: () => cycle("style", styleOptions),
  t: () => cycle("target", targetOptions),
  z: () => setZoom(isZoomed() ? FIT : 1),
  "+": () => zoomBy(1),
  "-": () => zoomBy(-1),
};
const FITTED = {
  ArrowLeft: () => step(-1),
  ArrowRight: () => step(1),
  ArrowUp: () => setBlend(Number(blend.value) + STEP),
  ArrowDown: () => setBlend(Number(blend.value) - STEP),
};
const ZOOMED = {
  ArrowLeft: () => panBy(-1, 0),
  ArrowRight: () => panBy(1, 0),
  ArrowUp: () => panBy(0, -1),
  ArrowDown: () => panBy(0, 1),
};

box.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "Tab") return keepInside(event);
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const own = event.target.matches("input, select") && key.length > 1; // a slider's or a choice's own arrows
  const act = { ...ANYWHERE, ...(isZoomed() ? ZOOMED : FITTED) }[key];
  if (!act || own) return;
  event.preventDefault();
  act();
});

/** From the last control to the first and back, not out to the browser. */
function keepInside(event) {
  const stops = [...box.querySelectorAll("button, input, select, a[href], [tabindex='0']")].filter(
    (node) => !node.disabled && node.offsetParent && (node.type !== "radio" || node.checked),
  );
  const [first, last] = [stops[0], stops.at(-1)];
  if (event.shiftKey ? event.target === first || !stops.includes(event.target) : event.target === last) {
    event.preventDefault();
    (event.shiftKey ? last : first).focus();
  }
}

byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("close").addEventListener("click", () => box.close());
box.addEventListener("close", () => {
  frame.replaceChildren();
  panes = [];
  fit();
  goTo(look.at);
  leave();
});

let start = null; // of a swipe
byId("stage").addEventListener("pointerdown", (event) => {
  start = event.isPrimary && event.pointerType !== "mouse" && !isZoomed() ? [event.clientX, event.clientY] : null;
});
byId("stage").addEventListener("pointerup", (event) => {
  if (!start) return;
  const [dx, dy] = [event.clientX - start[0], event.clientY - start[1]];
  start = null;
  if (Math.abs(dx) > 40 && Math.abs(dx) > 2 * Math.abs(dy)) step(dx < 0 ? 1 : -1);
});
