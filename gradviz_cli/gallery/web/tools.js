// The tools above the list.

const modeOptions = data.modes.map((mode, i) => [i, mode.name]);
const styleOptions = data.styles.map((style, i) => [i, style.name]);
const outOptions = data.outs.map((out, i) => [i, out.name]);
const TARGETS = { parent: "its folder's class" };
const targetOptions = data.targets.map((target, i) => [i, TARGETS[target] ?? (/^\d+$/.test(target) ? `class ${target}` : target)]);
const withAll = (word, options) => (options.length > 1 ? [[ALL, word], ...options] : []);

/** Whether any image has this, in any folder. */
const any = (test) => images.some((image) => OUTS.some((out) => test(image, out)));
const isProbable = (image, out) =>
  Object.keys(sideOf(image, out).targets ?? {}).some((target) => targetOf(image, out, target).probability !== null);
const OFFERED = {
  wrong: any((image, out) => isRight(image, out) !== undefined),
  differ: data.outs.length > 1,
  "output-": any(isProbable),
  "output+": any(isProbable),
};
const sorts = Object.keys(SORTS).filter((sort) => OFFERED[sort] ?? true);

/** The choices, as they are now. */
function tools() {
  const choices = byId("choices");
  choices.replaceChildren();
  const add = (name, title, options, then) => {
    if (options.length < 2) return;
    const chosen = (value) => {
      state[name] = value;
      then();
    };
    choices.append(chooser(name, title, options, state[name], chosen));
  };
  add("out", "Folder", withAll("both", outOptions), refresh);
  add("mode", data.modes.some((mode) => mode.source === "") ? "Map" : "Mode", withAll("all", modeOptions), redraw);
  add("style", "Style", styleOptions, redraw);
  add("target", "Target", targetOptions, () => {
    state.known = -1;
    classes();
    refresh();
  });
  const kinds = Object.keys(WORDS).map((word) => [word, WORDS[word], numberWith((image, out) => statusOf(image, out) === word)]);
  const statuses = kinds.filter(([, , n]) => n);
  if (statuses.length > 1) add("status", "Status", [["", "All", images.length], ...statuses], refresh);
  if (OFFERED.wrong) {
    const verdicts = Object.entries(VERDICTS).map(([word, [title]]) => [word, title, numberWith((image, out) => isRight(image, out) === (word === "right"))]);
    add("verdict", "Prediction", [["", "All", images.length], ...verdicts], refresh);
  }
  byId("first-field").hidden = !any(isFailure);
  byId("first").checked = state.first;
  byId("sort").replaceChildren(...sorts.map((sort) => make("option", { value: sort }, SORTS[sort][0])));
  byId("sort").value = state.sort;
  byId("text").value = state.text;
  classes();
}

const numberWith = (test) => images.filter((image) => OUTS.some((out) => test(image, out))).length;

/** The classes that occur for the target at hand, with how often. */
function classes() {
  const times = new Map();
  for (const image of images) {
    const found = new Map(OUTS.map((out) => targetOf(image, out, state.target)).filter(Boolean).map((target) => [target.known, target.label]));
    for (const [known, label] of found) times.set(known, [label, (times.get(known)?.[1] ?? 0) + 1]);
  }
  const found = [...times].sort((a, b) => collator.compare(a[1][0], b[1][0]));
  const options = found.map(([known, [label, n]]) => make("option", { value: known }, `${label} (${n.toLocaleString("en")})`));
  byId("class").replaceChildren(make("option", { value: -1 }, `All classes (${found.length})`), ...options);
  byId("class").value = state.known;
  byId("class").parentElement.hidden = found.length < 2;
}

const onChange = (id, name, value) =>
  byId(id).addEventListener("change", (event) => {
    state[name] = value(event.target);
    refresh();
  });
onChange("sort", "sort", (field) => field.value);
onChange("first", "first", (field) => field.checked);
onChange("class", "known", (field) => Number(field.value));

let pause;
byId("text").addEventListener("input", () => {
  clearTimeout(pause);
  pause = setTimeout(() => {
    state.text = byId("text").value.trim();
    refresh();
  }, 120);
});
byId("more").addEventListener("click", () => {
  const opened = byId("tools").classList.toggle("open");
  byId("more").setAttribute("aria-expanded", opened);
  draw();
});
byId("reset").addEventListener("click", () => {
  clearFilter();
  tools();
  refresh();
  goTo(0);
});

function clearFilter() {
  Object.assign(state, { text: "", status: "", verdict: "", known: -1 });
}

// ---- dark and light

const system = matchMedia("(prefers-color-scheme: dark)");
const memory = (() => {
  try {
    return window.localStorage; // refused to pages from disk by some browsers
  } catch {
    return null;
  }
})();
let theme = memory?.getItem("gradviz-theme") ?? "";

function paint() {
  document.documentElement.style.colorScheme = theme;
  byId("theme").setAttribute("aria-pressed", theme ? theme === "dark" : system.matches);
}
byId("theme").addEventListener("click", () => {
  const dark = theme ? theme === "dark" : system.matches;
  theme = dark ? "light" : "dark";
  memory?.setItem("gradviz-theme", theme);
  paint();
});
system.addEventListener("change", paint);
