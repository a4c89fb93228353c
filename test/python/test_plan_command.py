"""``tinymlir plan``, plans as files, and what it says of bad ones."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymlir.compiler import compile_model
from tinymlir.errors import TinymlirError
from tinymlir.fusion.graph import Graph, Layer, Read, Tensor, Window, chain
from tinymlir.fusion.planner import Planner
from tinymlir.fusion.setting import Block, from_json, to_json
from tinymlir.svg import Chart, Series, drawing
from tinymlir.targets import get_target
from tinymlir.tools.main import main
from tinymlir.tools.plan import load_graph

EXAMPLE = Path(__file__).parents[2] / "examples" / "surface_inspection" / "surface_qdq.onnx"


def conv(name: str, rows: int, columns: int, **facts: Any) -> tuple[Layer, Tensor]:
    window = Window(1, 1, 3)
    return Layer(name, "conv2d", (Read(0, window, window),), 0, **facts), Tensor(rows, columns, 4)


NETWORK = chain(
    Tensor(8, 8, 1),
    [
        conv("first", 8, 8, macs=64),
        conv("second", 8, 8, macs=64),
        conv("third", 8, 8, macs=64, fusable=False),
        conv("fourth", 8, 8, macs=64),
    ],
)


#: Rows become columns between two layers that keep them.
TURNED = """
#same = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
#turned = affine_map<(d0, d1, d2, d3) -> (d0, d2, d1, d3)>
func.func @main(%x: tensor<1x4x4x2xi8>) -> tensor<1x4x4x2xi8> {
  %e = tensor.empty() : tensor<1x4x4x2xi8>
  %a = linalg.max ins(%x, %x : tensor<1x4x4x2xi8>, tensor<1x4x4x2xi8>)
                  outs(%e : tensor<1x4x4x2xi8>) -> tensor<1x4x4x2xi8>
  %b = linalg.generic {indexing_maps = [#turned, #same],
      iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
      ins(%a : tensor<1x4x4x2xi8>) outs(%e : tensor<1x4x4x2xi8>)
      attrs = {tiny.layer = "turn", tiny.op = "transpose"} {
  ^bb0(%i: i8, %o: i8):
    linalg.yield %i : i8
  } -> tensor<1x4x4x2xi8>
  %y = linalg.max ins(%b, %b : tensor<1x4x4x2xi8>, tensor<1x4x4x2xi8>)
                  outs(%e : tensor<1x4x4x2xi8>) -> tensor<1x4x4x2xi8>
  return %y : tensor<1x4x4x2xi8>
}
"""


def test_front_and_choice_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    assert main(["plan", str(EXAMPLE), "--json", "-o", str(file)]) == 0
    report = json.loads(capsys.readouterr().out)
    sizes = [entry["ram_bytes"] for entry in report["front"]]
    factors = [entry["overhead"] for entry in report["front"]]
    assert sizes == sorted(sizes) and factors == sorted(factors, reverse=True)
    assert factors[-1] <= 1 and sizes[-1] < report["vanilla"]["ram_bytes"]
    assert report["chosen"]["plan"] == json.loads(file.read_text())
    least = sizes[0]
    assert main(["plan", str(EXAMPLE), "--json", "--max-ram", str(least)]) == 0
    assert json.loads(capsys.readouterr().out)["chosen"]["ram_bytes"] == least
    assert main(["plan", str(EXAMPLE), "--json", "--plan", str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["chosen"] == report["chosen"]


def test_plot_is_the_same_picture_every_time(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    files = [tmp_path / f"{name}.svg" for name in ("a", "b")]
    for file in files:
        assert main(["plan", str(EXAMPLE), "--input-mode", "streamed", "--plot", str(file)]) == 0
    capsys.readouterr()
    assert files[0].read_bytes() == files[1].read_bytes()
    picture = ElementTree.parse(files[0])
    texts = {element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {"fusion settings", "layer by layer", "chosen", "msf-CNN, as it counts"} <= texts


def test_steps_hold_their_height_and_ticks_are_round() -> None:
    chart = Chart("t", "x", "y", [Series("s", [(0, 7), (3, 2)], "red", "steps")], y_from=0)
    text = drawing([chart])
    (line,) = re.findall(r'points="([^"]*)" fill="none" stroke="red"', text)
    (x0, y0), (x1, y1), (x2, y2) = (map(float, p.split(",")) for p in line.split())
    assert y0 == y1 < y2 and x0 < x1 == x2
    assert re.findall(r'text-anchor="end">([^<]*)<', text) == ["0", "2", "4", "6", "8"]


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m0"])
def test_layer_by_layer_is_what_compile_gives(target: str) -> None:
    core = get_target(target)
    vanilla = Planner(load_graph(EXAMPLE, core), "external").vanilla()
    assert vanilla.bytes == compile_model(EXAMPLE, core).arena_bytes


def test_layers_that_cannot_run_row_by_row_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "turned.mlir"
    file.write_text(TURNED)
    assert main(["plan", str(file)]) == 0
    assert "they cannot run row by row: 'turn' (transpose)" in capsys.readouterr().out
    assert main(["plan", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cuts"] == [{"name": "turn", "op": "transpose"}]


def test_table_marks_the_choice(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(EXAMPLE), "--input-mode", "streamed", "--max-overhead", "1.5"]) == 0
    out = capsys.readouterr().out
    assert out.count("chosen") == 1 and out.count("layer by layer") == 1


def test_a_budget_below_the_least(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(EXAMPLE), "--max-ram", "1K"]) == 1
    error = capsys.readouterr().err
    assert "bytes of RAM at the least, more than --max-ram 1024 allows; " in error
    assert "by stages 0-" in error


@given(st.lists(st.sampled_from([0, 1, 2, 4]), min_size=4, max_size=4))
@settings(deadline=None)
def test_plans_are_written_and_read(strips: list[int]) -> None:
    blocks = tuple(Block(i, i, s if NETWORK.layers[i].fusable else 0) for i, s in enumerate(strips))
    planner = Planner(NETWORK, "in-arena")
    text = json.dumps(to_json(NETWORK, "in-arena", planner.price(blocks)))
    assert from_json(NETWORK, text, "p.json") == ("in-arena", blocks)


def test_caches_are_written_and_read() -> None:
    blocks = (Block(0, 1, 2, cached=(0,)), Block(2, 2, 0), Block(3, 3, 0))
    text = json.dumps(to_json(NETWORK, "external", Planner(NETWORK, "external").price(blocks)))
    assert json.loads(text)["stages"][0]["cached"] == ["first"]
    assert from_json(NETWORK, text, "p.json") == ("external", blocks)


def test_columns_are_kept_by_strips() -> None:
    with pytest.raises(TinymlirError, match="only strips keep columns for one another; add"):
        Planner(NETWORK, "external", ("rows", "columns"))


def plan(*stages: dict[str, Any], **facts: Any) -> str:
    return json.dumps({"version": 1, "input": "external", "stages": list(stages), **facts})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "p.json: is not JSON (line 1: "),
        ("[]", "p.json: node 'the plan': expects an object"),
        (plan(version=2), "p.json: node 'version': has another version than 1"),
        (plan(input="inside"), "p.json: node 'input': 'inside' is none of external, in-arena"),
        (plan(steps=[]), "p.json: node 'the plan': has an unknown key 'steps'; known: version"),
        (plan(stages=1), "p.json: node 'stages': expects a list"),
        (
            plan({"first": "frist", "last": "second"}),
            "p.json: node 'stages[0].first': the network has no layer 'frist'; did you mean",
        ),
        (plan({"first": "second", "last": "first"}), "node 'stages[0]': ends before it begins"),
        (
            plan({"first": "first", "last": "second"}, {"first": "second", "last": "fourth"}),
            "node 'stages[1]': begins before the stage above it ends; list stages in the order",
        ),
        (
            plan({"first": "first", "last": "second", "strips": 0}),
            "node 'stages[0].strips': expects a number from 1 on",
        ),
        (
            plan({"first": "first", "last": "second", "strips": 9}),
            "node 'stage first to second': 9 strips of an output with 8 columns",
        ),
        (
            plan({"first": "first", "last": "second", "strips": 7}),
            "8 columns in strips of 2 make 4 strips, not 7",
        ),
        (
            plan({"first": "first", "last": "fourth"}),
            "layer 'third' (conv2d) cannot run row by row; let it run by itself",
        ),
        (
            plan({"first": "first", "last": "second", "strips": 2}, input="streamed"),
            "a streamed input passes once: one strip",
        ),
        (
            plan({"first": "first", "last": "second", "strips": 2, "cached": "first"}),
            "node 'stages[0].cached': expects a list of layers",
        ),
        (
            plan({"first": "first", "last": "second", "strips": 2, "cached": [["first"]]}),
            "node 'stages[0].cached': the network has no layer ['first']",
        ),
        (
            plan({"first": "first", "last": "second", "strips": 2, "cached": ["second"]}),
            "caches columns of 'second', which gives no tensor inside",
        ),
        (
            plan({"first": "first", "last": "second", "cached": ["first"]}),
            "caches columns of 'first', which no two strips need",
        ),
        (plan(input="streamed"), "layer 'first' reads a streamed input, and is in no stage"),
    ],
)
def test_plans_that_do_not_fit(text: str, message: str) -> None:
    with pytest.raises(TinymlirError) as caught:
        mode, blocks = from_json(NETWORK, text, "p.json")
        Planner(NETWORK, mode).price(blocks, "p.json")
    assert message in str(caught.value)


def test_a_stage_has_one_output() -> None:
    second = Layer("sum", "add", (Read(0), Read(1)), 2)
    first, tensor = conv("first", 8, 8)
    graph = Graph(
        (tensor, tensor, tensor),
        (Layer(first.name, "conv2d", first.reads, 1), second),
        (0,),
        (1, 2),
    )
    with pytest.raises(TinymlirError, match="'first' is read after the stage as well"):
        Planner(graph, "external").price([Block(0, 1, 1)])


def test_choices() -> None:
    planner = Planner(NETWORK, "external")
    assert planner.choose(None, None).macs <= NETWORK.macs
    with pytest.raises(TinymlirError, match=r"the least overhead is .*, more than 0\.5"):
        planner.choose(None, 0.5)
    with pytest.raises(TinymlirError, match=r"with an overhead of 1\.0 at most"):
        planner.choose(1, 1.0)


def test_memory_that_is_there_makes_strips_wider() -> None:
    graph = chain(Tensor(8, 32, 1), [conv(name, 8, 32, macs=64) for name in ("a", "b", "c")])
    planner = Planner(graph, "external")
    least = planner.choose(None, 1.0)
    assert least.blocks[-1].strips > 2
    rooms = range(planner.ram_bytes(least), planner.ram_bytes(planner.vanilla()), 64)
    settings = [planner.choose(room, 1.0) for room in rooms]
    assert all(planner.ram_bytes(s) <= room for s, room in zip(settings, rooms, strict=True))
    assert {setting.macs for setting in settings} == {least.macs}
    strips = [setting.blocks[-1].strips for setting in settings]
    assert strips == sorted(strips, reverse=True) and strips[-1] <= 1


def test_streaming_needs_one_input() -> None:
    graph = Graph(
        (Tensor(2, 2, 1),) * 3, (Layer("sum", "add", (Read(0), Read(1)), 2),), (0, 1), (2,)
    )
    with pytest.raises(TinymlirError, match="a network with 2 inputs cannot be streamed"):
        Planner(graph, "streamed")


def test_a_first_layer_that_cannot_stream() -> None:
    graph = chain(Tensor(8, 8, 1), [conv("first", 8, 8, fusable=False)])
    with pytest.raises(TinymlirError, match="no stage of this network can take its input row by"):
        _ = Planner(graph, "streamed").front
