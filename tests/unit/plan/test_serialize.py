"""A plan goes to another machine and comes back the same."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from gradviz_cli.draw.styles import SHEETS
from gradviz_cli.errors import UsageError
from gradviz_cli.plan.digests import Digests
from gradviz_cli.plan.outputs import outputs
from gradviz_cli.plan.plan import Drawing, Job, Plan, Walk
from gradviz_cli.plan.serialize import from_json, to_json
from gradviz_cli.plan.targets import Target
from gradviz_cli.process.protocol import ModelOptions

PLAIN = Plan(ModelOptions("model"), Path("out"))
FULL = Plan(
    ModelOptions(
        "models/caf\u00e9",
        "sig",
        "tag",
        "in",
        "out:0[..., 3]",
        "output",
        "all",
        "torch",
        (8, 9),
        "NCHW",
        (1, 2),
        (("x", "[1, 2]"), ("y", "0.1")),
        "bfloat16",
        ("ReadFile",),
        True,
        (-1.0, 1.0),
        (0.485, 0.1),
        (0.25,),
        "bgr",
    ),
    Path("a b/out"),
    Drawing(("deconv", "guided"), (Target(rank=1), Target(index=7)), ("panel",), clip=0.1 + 0.2, raw=True),
    ("\u732b", "", "dog"),
    batch_size=3,
    jobs=1,
    max_duration=1e-3,
    lock_wait=2.0,
    labels_asked="--labels x",
    typed="/models",
    adopt=True,
    allow_empty=True,
    walk=Walk(("*.jpg",), ("old",), True, "photos", "all"),
)
ODD_PATH = replace(PLAIN, out=Path("caf\udce9"))  # a name whose bytes are not UTF-8


@pytest.mark.parametrize("plan", [PLAIN, FULL, ODD_PATH], ids=["plain", "full", "odd path"])
def test_there_and_back(plan: Plan) -> None:
    text = to_json(plan)
    assert text.isascii() and "\n" not in text
    again = from_json(text)
    assert again == plan and isinstance(again.out, Path) and to_json(again) == text
    job = Job(Path("x"), "x")
    for one, other in zip(outputs(plan, job, SHEETS), outputs(again, job, SHEETS), strict=True):
        assert one == other and Digests(plan, "f").of(one, "i") == Digests(again, "f").of(other, "i")


def test_the_bytes_of_a_plan() -> None:
    """Written out, so that a change of the form is seen: other machines read it."""
    assert to_json(PLAIN) == (
        '{"adopt":false,"allow_empty":false,"batch_size":null,"drawing":{"allow_empty_map":false,"alpha":0.5,"box":false,"clip":99.0,'
        '"colormap":"inferno","estimation":{"baseline":"mean","baseline_sha256":"","cam_layer":"auto","noise":0.15,'
        '"samples":32},"estimators":["gradient"],"fast_decode":false,"fit":"stretch","modes":["guided"],"only":[],'
        '"raw":false,"scale":"each",'
        '"scores":true,"size":"image","styles":["heatmap"],"targets":[{"index":null,"parent":false,"rank":0}]},"dry_run":false,'
        '"engine":"local","fail_fast":false,"file":"","force":false,"jobs":null,"labels":[],"labels_asked":"","lock_wait":0.0,"max_duration":null,'
        '"max_file_size":100000000,"max_pixels":52000000,"model":{"activations":"relu","allow_ops":[],"at":[],'
        '"box_of":null,"channel_order":null,"feeds":[],"input":null,"input_size":null,"layout":null,"mean":[],"output":null,'
        '"path":"model","pixel_range":null,"precision":"float32","preprocess":"auto","score":"logit","signature":null,'
        '"std":[],"tag":null,"trust_model":false},"out":"out",'
        '"proof":"auto","ray_address":null,"require_sandbox":false,"timeout":60.0,"type":"Plan","typed":"","url":"","verify":false,'
        '"walk":{"exclude":[],"follow_links":false,"include":[],"pages":"first","root":null}}'
    )


@pytest.mark.parametrize("name", [field.name for field in fields(Plan)])
def test_a_missing_field_is_refused(name: str) -> None:
    sent = json.loads(to_json(FULL))
    del sent[name]
    with pytest.raises(UsageError, match="no plan"):
        from_json(json.dumps(sent))


@pytest.mark.parametrize(
    "change",
    [
        {"estimators": []},
        {"type": "Load"},
        {"out": None},
        {"out": 3},
        {"labels": "abc"},
        {"labels": [1]},
        {"jobs": "2"},
        {"jobs": True},
        {"force": 1},
        {"timeout": "60"},
        {"model": {}},
        {"model": {**json.loads(to_json(FULL))["model"], "input_size": [1, 2, 3]}},
        {"drawing": {**json.loads(to_json(FULL))["drawing"], "targets": [{"index": None, "rank": None}]}},
        {"drawing": {**json.loads(to_json(FULL))["drawing"], "dpi": 300}},
    ],
    ids=str,
)
def test_what_is_no_plan_is_refused(change: dict) -> None:
    with pytest.raises(UsageError, match="no plan"):
        from_json(json.dumps({**json.loads(to_json(FULL)), **change}))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no plan"):
        from_json(text)
