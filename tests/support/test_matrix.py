"""The support matrix in the docs is what its results say, complete, and keeps what is promised."""

import copy
import json

import pytest

from tests.support import matrix
from tests.support.configurations import BY_NAME
from tests.support.configurations import DENSE
from tests.support.configurations import ODD
from tests.support.configurations import PARTLY
from tests.support.configurations import PROMISED

LESS = ("parts in torch", " graphs, ", "launches in", "operators of a step in torch", "wrapper", "no graph of a step")


def test_the_census_is_complete():
    assert len(DENSE) == 56 and len({c.kind for c in DENSE}) == 54
    assert len(PARTLY) == 37 and len(BY_NAME) == 93 + len(ODD)
    assert len(PROMISED) == 14 and not any(c.partly or c.breaks for c in PROMISED)


def test_page_is_rendered_from_results():
    assert matrix.PAGE.read_text() == matrix.render(matrix.stored())


@pytest.mark.parametrize("form", matrix.FORMS)
@pytest.mark.parametrize("name", list(BY_NAME))
def test_results(name, form):
    configuration = BY_NAME[name]
    against = matrix.against(matrix.stored()["models"][name][form])
    if configuration.partly or configuration.breaks:  # not one launch, but right
        assert all(any(word in said for word in LESS) for said in against)
    else:
        assert not against


def test_reason_is_one_line_without_local_folders():
    text = (
        "backend='x' raised:\nUnsupportedError: cannot be lowered: aten.foo: no rule; at /a/b/models/m.py:3 in f: g()\n"
    )
    assert matrix.reason(ValueError(text)) == (
        "UnsupportedError: cannot be lowered: aten.foo: no rule; at m.py:3 in f: g()"
    )


class TestWhatIsNotKeptIsListed:
    @pytest.mark.parametrize(
        ("damage", "said"),
        [
            ({"stopped": "an op"}, "an op"),
            ({"against": ["3 launches in 2 steps"]}, "3 launches in 2 steps"),
            ({"error_fp32": 2e-4}, "fp32 logits are off by 2.0e-04"),
            ({"cache_fp32": float("inf")}, "the fp32 cache is off by inf"),
            ({"tokens_equal": False}, "other greedy tokens than eager"),
            ({"error_bf16": 0.16, "eager_bf16": 0.1}, "bf16 errors are 1.60 times those of eager"),
        ],
    )
    def test_on_the_page(self, damage, said):
        results = matrix.stored()
        results["models"]["OPT"]["direct"].update(damage)
        page = matrix.render(results)
        assert f"- **OPT**, direct: {said}." in page
        assert ("| OPT | direct | not reached |" in page) == ("stopped" in damage)

    def test_an_unknown_count(self):
        results = matrix.stored()
        results["models"]["Llama"]["direct"]["in_torch"] = None
        assert "| Llama | direct | 1 | 1 | 0 | ? |" in matrix.render(results)

    def test_with_the_place_where_dynamo_breaks(self):
        results = matrix.stored()
        results["models"]["MPT"]["generate"]["against"] = ["5 launches in 1 steps"]
        line = next(line for line in matrix.render(results).splitlines() if line.startswith("- **MPT**, generate"))
        assert "5 launches in 1 steps. Dynamo breaks at Tensor.item()" in line


class TestCommand:
    @pytest.fixture
    def measured(self, monkeypatch, tmp_path):
        """The command on files of its own, with a measurement that costs nothing; what it measured."""
        found = copy.deepcopy(matrix.stored())
        asked = []

        def measure(name, form, target):
            asked.append((name, form, target))
            if name == "OPT":
                raise KeyboardInterrupt
            return found["models"]["Llama"]["direct"]

        monkeypatch.setattr(matrix, "RESULTS", tmp_path / "support.json")
        monkeypatch.setattr(matrix, "PAGE", tmp_path / "support.md")
        monkeypatch.setattr(matrix, "_warm", lambda: None)
        monkeypatch.setattr(matrix, "measure_apart", measure)
        return asked

    def test_an_interruption_loses_nothing(self, measured):
        with pytest.raises(KeyboardInterrupt):
            matrix.main(["--models", "Llama", "OPT"])
        assert set(json.loads(matrix.RESULTS.read_text())["models"]["Llama"]) == {"direct", "generate"}
        measured.clear()
        with pytest.raises(KeyboardInterrupt):
            matrix.main(["--models", "Llama", "OPT", "--missing"])
        assert measured == [("OPT", "direct", "reference")]

    def test_results_of_other_versions_are_dropped(self, measured):
        matrix.main(["--models", "Llama"])
        matrix.main(["--models", "Qwen2", "--forms", "direct"])
        assert list(matrix.stored()["models"]) == ["Llama", "Qwen2"]
        matrix.main(["--models", "Qwen3", "--target", "cpu"])
        assert list(matrix.stored()["models"]) == ["Qwen3"] and matrix.stored()["made"]["target"] == "cpu"

    def test_a_promise_that_is_not_kept_fails(self, measured, capsys):
        assert matrix.main(["--models", "Llama"]) == 0
        results = matrix.stored()
        results["models"]["Llama"]["direct"]["tokens_equal"] = False
        matrix.RESULTS.write_text(json.dumps(results))
        assert matrix.main(["--render"]) == 1
        assert "promised but not reached: Llama" in capsys.readouterr().err
