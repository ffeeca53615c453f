// Where it comes from: the head, the foot, and the start.

const NAMES = {
  name: "model",
  model: "model fingerprint",
  version: "gradviz",
  signature: "signature",
  preprocess: "preprocess",
  estimator: "estimator",
  clip: "clip percentile",
  unit: "unit of the scale",
};

/** The model and the last run of each folder, in the head. */
function runs() {
  const several = data.outs.length > 1;
  const told = data.outs.map(({ name, models }, out) => {
    const times = images.map((image) => Date.parse(sideOf(image, out).time)).filter((time) => !isNaN(time));
    const last = times.length ? new Date(times.reduce((a, b) => Math.max(a, b))).toISOString() : null;
    const words = [models.join(", ") && `model ${models.join(", ")}`, last && `run of ${moment(last)}`].filter(Boolean);
    return (several ? `${name}: ` : "") + words.join(", ");
  });
  byId("runs").replaceChildren(...told.map((text) => make("span", {}, text)));
  byId("runs").hidden = !told.some(Boolean);
}

function about() {
  const modes = data.modes.map((mode) => [mode.name, mode.source ? `${mode.summary} (${mode.source})` : mode.summary]);
  const styles = data.styles.map((style) => [style.name, style.summary]);
  const pairs = (all) => make("dl", {}, ...rows(all));
  const section = (title, ...content) => make("section", {}, make("h2", {}, title), ...content);
  const parts = [];
  if (modes.length || styles.length) parts.push(section("How to read the maps", pairs([...modes, ...styles])));
  for (const caution of new Set(data.modes.map((mode) => mode.caution).filter(Boolean))) {
    parts[0].append(make("p", {}, caution));
  }
  for (const { pictures, facts } of data.runs) {
    const known = Object.keys(NAMES).filter((key) => key in facts);
    const keys = [...known, ...Object.keys(facts).filter((key) => !(key in NAMES))];
    const value = (found) => (typeof found === "string" ? found : JSON.stringify(found));
    const title = `How ${count(pictures, "picture")} ${pictures === 1 ? "was" : "were"} made`;
    parts.push(section(title, pairs(keys.map((key) => [NAMES[key] ?? key, value(facts[key])]))));
  }
  if (OFFERED.wrong) {
    const words = "Right and wrong are told by the folders that images lie in: those whose name is the label of a class.";
    const rest = data.unjudged.length ? ` No label is the name of ${data.unjudged.join(", ")}.` : "";
    parts.push(section("Right and wrong", make("p", {}, words + rest)));
  }
  const made = make("time", { dateTime: data.made }, moment(data.made));
  const copied = copies ? ". It holds reduced copies of the pictures." : "";
  byId("about").append(make("div", {}, ...parts), make("p", { className: "made" }, "Page made ", made, ` by gradviz ${data.version}${copied}`));
}

paint();
runs();
about();
across = list.clientWidth;
apply();
performance.mark("gradviz-ready");
