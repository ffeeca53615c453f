"""What a new user types wrong, and the line that answers it: it says what is wrong and names the mend, never the model."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import pytest
from commands import picture

from gradviz_cli import demo
from gradviz_cli.cli import main
from gradviz_cli.estimators import ESTIMATORS
from gradviz_cli.model import remote

MODES = "'{}' is none of backprop, deconv, guided, all; "
STYLES = "'{}' is none of heatmap, gray, signed, rgb, overlay, panel; "
KINDS = f"'{{}}' is none of {', '.join(ESTIMATORS)}; "
LABELS = "among the 11 of birds/assets.extra/labels.txt; "

# What is typed behind `gradviz`, variables before it, and what is answered.
WRONG = (
    # commands
    ("expain birds cat.png", "there is no command expain; did you mean explain?"),
    ("birds cat.png", "there is no command birds; did you mean gradviz explain birds cat.png?"),
    ("run birds cat.png", "there is no command run; did you mean explain?"),
    ("frobnicate birds", "there is no command frobnicate; the commands are explain, inspect, "),
    ("help explain", "there is no command help; did you mean gradviz explain --help?"),
    ("-V", "gradviz has no option -V; did you mean --version?"),
    ("-help", "-help: an option of several letters begins with --; did you mean --help?"),
    ("prune -help", "-help: an option of several letters begins with --; did you mean --help?"),
    ("gallery", "gradviz: OUT is missing; give gradviz gallery OUT [OUT2]"),
    ("gallery maps --zip", "gallery has no option --zip; did you mean --embed?"),
    ("explain --hlep", "explain has no option --hlep; did you mean --help"),
    ("explain birds cat.png --top 3", "explain has no option --top; the best classes are a target: -t top3"),
    ("explain birds cat.png -k 3", "explain has no option -k; the best classes are a target: -t top3"),
    ("explain birds cat.png --overlay", "explain has no option --overlay; did you mean --style overlay?"),
    ("explain birds cat.png --guided", "explain has no option --guided; did you mean --mode guided?"),
    ("explain --model birds cat.png", "explain has no option --model; what it names stands without an option: gradviz explain MODEL IMAGES..."),
    ("explain birds cat.png -t=top3", "-t=top3: behind one letter = is a part of the value; did you mean -t top3?"),
    ("explain birds cat.png -o=maps", "-o=maps: behind one letter = is a part of the value; did you mean -o maps?"),
    ("explain cat.png", "no images are given; cat.png is one, and MODEL comes first: gradviz explain MODEL cat.png"),
    ("help", "there is no command help; did you mean gradviz --help?"),
    ("--mode guided birds", "gradviz has no option --mode; options stand behind a command: gradviz explain ... --mode"),
    ("explain", "gradviz: MODEL is missing; give gradviz explain MODEL IMAGES..."),
    ("explain birds", "no images are given; name files or folders after MODEL"),
    ("explain cat.png birds", "cat.png is no model, but birds is one; MODEL comes first"),
    ("inspect birds cat.png", "inspect takes a MODEL alone, and not cat.png behind it; for images give --image cat.png"),
    ("gallery maps more extra", "extra: a page shows two folders at most; give OUT, or OUT and OUT2"),
    # names of options
    ("explain birds cat.png --mdoe guided", "explain has no option --mdoe; did you mean --mode?"),
    ("explain birds cat.png --cmap viridis", "explain has no option --cmap; did you mean --colormap?"),
    ("explain birds cat.png --batch_size 8", "explain has no option --batch_size; did you mean --batch-size?"),
    ("inspect birds --style overlay", "inspect has no option --style, but gradviz explain has; see "),
    ("demo --mode guided", "demo has no option --mode, but gradviz explain has; see "),
    ("explain birds cat.png -out maps", "-out: an option of several letters begins with --; did you mean --out?"),
    ("explain birds cat.png mode=guided", "no such file or folder: mode=guided; did you mean --mode guided?"),
    ("explain birds --forced.png cat.png", "explain has no option --forced.png; for the file of that name give ./--forced.png"),
    ("explain birds cat.png --out", "--out: nothing is given for it; give --out VALUE"),
    ("explain birds cat.png --raw=yes", "--raw: takes no value; give --raw alone, or leave it out"),
    # choices
    ("explain birds cat.png -m guide", f"--mode: {MODES.format('guide')}did you mean guided?"),
    ("explain birds cat.png -m saliency", f"--mode: {MODES.format('saliency')}did you mean backprop?"),
    ("explain birds cat.png -m guided,decnov", f"--mode: {MODES.format('decnov')}did you mean deconv?"),
    ("explain birds cat.png -m guided backprop", "no such file or folder: backprop; of several values of --mode make one: --mode guided,backprop"),
    ("explain birds cat.png -e ig", f"--estimator: {KINDS.format('ig')}did you mean integrated-gradients?"),
    ("explain birds cat.png -e attention", f"--estimator: {KINDS.format('attention')}did you mean chefer or attention-rollout?"),
    ("check birds cat.png --limit 0", "--limit: 0 is not in the range x>=1; give --limit N, see gradviz check --help"),
    ("explain birds cat.png --style overlya", f"--style: {STYLES.format('overlya')}did you mean overlay?"),
    ("explain birds cat.png --colormap jet", "--colormap: 'jet' is none of inferno, magma, viridis, "),
    ("explain birds cat.png --colormap Viridis", "list; did you mean viridis?"),
    ("explain birds cat.png --preprocess imagenet", "did you mean torch or caffe?"),
    ("explain birds cat.png --preprocess 0-1", "did you mean unit?"),
    ("explain birds cat.png --layout channels_frist", "did you mean channels_first or channels_last?"),
    ("explain birds cat.png --activations silu", "did you mean all?"),
    ("explain birds cat.png --proof no", "did you mean never?"),
    # numbers
    ("explain birds cat.png --clip 0.99", "--clip: 0.99 is not a percentile, such as 99; did you mean 99?"),
    ("explain birds cat.png --clip x", "--clip: 'x' is no number; give --clip PERCENT"),
    ("explain birds cat.png --alpha 50%", "--alpha: 50% is no weight; did you mean 0.5?"),
    ("explain birds cat.png --timeout 2m", "--timeout: 2m is no number of seconds from 1; did you mean 120?"),
    ("explain birds cat.png --max-file-size 100MB", "is no amount, such as 500k or 50M; did you mean 100M?"),
    ("explain birds cat.png --input-size 224", "--input-size: 224 is not HEIGHTxWIDTH, such as 224x224; did you mean 224x224?"),
    ("explain birds cat.png --pixel-range 0-1", "--pixel-range: 0-1 is not LOW,HIGH; did you mean 0,1?"),
    ("explain birds cat.png --shard 5/4", "--shard: 5/4 is not I/N, such as 2/8: parts are counted from 1 to N; give "),
    ("explain birds cat.png --jobs -1", "--jobs: -1 is neither a whole number above 0 nor auto; give --jobs N|auto"),
    # targets
    ("explain birds cat.png -t top0", "--target top0: the best class is top1; give top1 or more"),
    ("explain birds cat.png -t rank0", "--target rank0: the best class is rank1; give rank1 or more"),
    ("explain birds cat.png -t hart", f"--target hart: no such label {LABELS}did you mean heart?"),
    ("explain birds cat.png -t star,hart", f"--target star,hart: hart: no such label {LABELS}did you mean heart?"),
    ("explain birds cat.png -t a,b", f"--target a,b: a: no such label {LABELS}it holds arrow, "),
    ("explain birds cat.png -t unicorn", f"--target unicorn: no such label {LABELS}it holds arrow, "),
    ("explain birds cat.png -t TOP3", "--target TOP3: it is no label; did you mean top3?"),
    ("explain birds cat.png -t 5top", "--target 5top: it is no label; did you mean top5?"),
    ("explain birds cat.png -t topK", "--target topK: a number is missing; top3 is the three best"),
    ("explain birds cat.png -t all", "--target all: it is no label; for every class give top11"),
    ("explain birds cat.png -t best", "--target best: it is no label; the best class of each image is top1"),
    ("explain birds cat.png -t 3-5", "--target 3-5: it is no class index; write several out: 3,4,5"),
    ("explain birds cat.png -t 'top1 4'", "--target top1 4: a blank parts nothing; write commas: top1,4"),
    ("explain birds cat.png -t heart star", "no such file or folder: star; if it is a class, of several make one value: --target heart,star"),
    ("explain birds cat.png -t -1", "--target -1: a class index is a whole number from 0; give "),
    ("explain birds cat.png -t ''", "--target '': it is empty; give a class index, topK, rankK or a label"),
    ("explain birds cat.png -t top1,", "--target top1,: a part between commas is empty; give "),
    ("explain birds cat.png -t parents", "--target parents: it is no label; did you mean parent?"),
    ("explain birds cat.png -t class3", "--target class3: it is no label; did you mean 3?"),
    ("explain birds cat.png --style heatmap, overlay", "--style: heatmap,: nothing stands on one side of a comma; write NAME,NAME"),
    # files
    ("explain dmeo cat.png", "no such model: dmeo; did you mean demo?"),
    ("explain birds birds cat.png", "birds is a model too, and a run explains one; give it a run of its own: gradviz explain birds IMAGES"),
    ("explain https://example.org/m cat.png", "is an address, and no store; download it, and give its path"),
    ("explain birds cat.png -o x.pdf", "--out x.pdf: pictures are written as PNG; gradviz figure draws one from a folder"),
    ("inspect birds --image ct.png", "--image ct.png: no such file or folder; did you mean cat.png?"),
    ("explain bird cat.png", "no such model: bird; did you mean birds?"),
    ("explain birds cat.pgn", "no such file or folder: cat.pgn; did you mean cat.png?"),
    ("explain birds cat.jpg", "no such file or folder: cat.jpg; did you mean cat.png?"),
    ("explain birds phtos/dog.png", "no such file or folder: phtos/dog.png; did you mean photos/dog.png?"),
    ("explain birds *.tiff", "no such file or folder: *.tiff; no file matches; give the folder, and --include"),
    ("explain birds cat.png --labels lables.txt", "--labels lables.txt: no such file; did you mean labels.txt?"),
    ("explain birds cat.png --root phots", "--root phots: no such folder; did you mean photos?"),
    ("explain birds --files-from lst.txt", "--files-from lst.txt: No such file or directory; did you mean list.txt?"),
    ("explain birds cat.png -o '~/maps'", "--out: ~/maps begins with a ~ that no shell has read; did you mean "),
    ("gallery photo", "it holds no manifest.jsonl; did you mean photos?"),
    ("compact photo", "photo: no such folder; did you mean photos?"),
    ("show ct.png", "ct.png: cannot be opened: No such file or directory; did you mean cat.png?"),
    ("prune photo", "photo: no such folder; did you mean photos?"),
    # config and environment
    ("explain birds cat.png --config good.tml", "good.tml: cannot be opened: No such file or directory; did you mean good.toml?"),
    ("explain birds cat.png --config value.toml", f"value.toml: style: {STYLES.format('overlya')}did you mean overlay?"),
    ("explain birds cat.png --config key.toml", "key.toml: there is no option stlye; did you mean style?"),
    ("explain birds cat.png --config bare.toml", 'texts stand in quotes: style = "overlay"'),
    ("explain birds cat.png --config section.toml", "section.toml: [explain] is a section; options stand in the file without one"),
    ("explain birds cat.png --config target.toml", f"target.toml: target hart: no such label {LABELS}did you mean heart?"),
    ("GRADVIZ_EXPLAIN_MODE=guide explain birds cat.png", f"GRADVIZ_EXPLAIN_MODE: {MODES.format('guide')}did you mean guided?"),
    ("GRADVIZ_EXPLAIN_STLYE=gray explain birds cat.png", "GRADVIZ_EXPLAIN_STLYE: there is no option stlye; did you mean GRADVIZ_EXPLAIN_STYLE?"),
    ("GRADVIZ_EXPLAN_STYLE=gray explain birds cat.png", "GRADVIZ_EXPLAN_STYLE: there is no command explan; did you mean GRADVIZ_EXPLAIN_STYLE?"),
    ("GRADVIZ_EXPLAIN_TARGET=hart explain birds cat.png", f"GRADVIZ_EXPLAIN_TARGET hart: no such label {LABELS}did you mean heart?"),
    ("GRADVIZ_EXPLAIN_RAW=maybe explain birds cat.png", "GRADVIZ_EXPLAIN_RAW: 'maybe' is neither true nor false; "),
    ("GRADVIZ_EXPLAIN_CONFIG=good.tml explain birds cat.png", "GRADVIZ_EXPLAIN_CONFIG: good.tml: cannot be opened"),
    ("GRADVIZ_EXPLAIN_FILES_FROM=lst.txt explain birds", "GRADVIZ_EXPLAIN_FILES_FROM lst.txt: No such file or directory; did you mean list.txt?"),
    # names that no file can have
    ("explain birds cat.png -o " + "d" * 300, "--out: " + "d" * 60 + "... has 300 bytes, more than a name can have here; shorten it"),
    ("gallery " + "d" * 300, "has 300 bytes, more than a name can have here; shorten it"),
    ("explain birds cat.png -o maps/" + "d" * 300 + "/one.png", "has 300 bytes, more than a name"),
    ("prune " + "d/" * 1000, "leads through more than 500 folders; shorten it"),
    ("inspect " + "d/" * 3000, "leads through more than 500 folders; shorten it"),
    ("explain birds cat.png --labels " + "d" * 200 + "/" + "d" * 5000, "has 5201 bytes, more than a name"),
    # what does not go together
    ("explain birds cat.png --alpha 0.3", "--alpha 0.3: --style heatmap cannot use it; leave it out, or add --style overlay"),
    ("explain birds cat.png --colormap magma --style rgb", "--colormap magma: --style rgb cannot use it; leave it out, or add "),
    ("explain birds cat.png --preprocess caffe --mean 0.5", "--preprocess caffe and --mean both say what the model expects; leave one"),
    ("explain birds cat.png -0", "--null: it is of the names that --files-from reads; add --files-from FILE"),
    ("explain birds cat.png --print --print0", "--print and --print0 are two forms of the same list; give one of them"),
    ("explain birds cat.png -q -v", "--quiet and --verbose contradict each other; give one of them"),
    ("explain birds cat.png --dry-run --gallery", "--gallery writes a page, and --dry-run writes nothing; leave one"),
    ("explain birds cat.png --no-scores", "--no-scores: only deconv of given classes can do without them; add "),
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder as a new user has it."""
    folder = tmp_path_factory.mktemp("wrong")
    shutil.copytree(demo.MODEL, folder / "birds")
    picture(folder / "cat.png", 1)
    picture(folder / "photos" / "dog.png", 2)
    files = {
        "labels.txt": "a\nb\n",
        "list.txt": "cat.png\n",
        "good.toml": "",
        "value.toml": 'style = "overlya"',
        "key.toml": 'stlye = "overlay"',
        "bare.toml": "style = overlay",
        "section.toml": '[explain]\nstyle = "overlay"',
        "target.toml": 'target = "hart"',
        "--forced.png": "",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(("typed", "answer"), WRONG, ids=[typed[:80] for typed, _ in WRONG])
def test_each_is_answered_by_a_line_that_names_the_mend(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], typed: str, answer: str
) -> None:
    words = shlex.split(typed)
    while words[0].startswith("GRADVIZ_"):
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    monkeypatch.setattr(remote, "Child", None)  # options are checked before the model
    monkeypatch.chdir(place)
    before = sorted(os.listdir(place))
    assert main(words) == 2
    (said,) = capfd.readouterr().err.splitlines()
    assert said.startswith("gradviz: ") and answer in said
    assert "; " in said  # what is wrong; the mend
    assert sorted(os.listdir(place)) == before  # nothing was begun


@pytest.mark.parametrize("command", ["explain", "inspect", "figure", "gallery", "show", "prune", "demo"])
def test_examples_in_help_fit_on_a_screen(capfd: pytest.CaptureFixture[str], command: str) -> None:
    assert main([command, "--help"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80 and not line.lstrip().startswith("--")] == []


def test_they_are_many() -> None:
    assert len({typed for typed, _ in WRONG}) == len(WRONG) >= 40


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("\u2013mode guided", "--mode"),
        ("\u2014style gray", "--style"),
        ("\u2013m guided", "-m"),
        ("-style gray", "--style"),
        ("-target=3", "--target=3"),
    ],
)
def test_a_dash_of_a_word_processor_is_no_dash(place: Path, monkeypatch, capfd, typed: str, name: str) -> None:
    monkeypatch.chdir(place)
    assert main(["explain", "birds", "cat.png", *typed.split()]) == 2
    assert capfd.readouterr().err.endswith(f"; did you mean {name}?\n")
