"""The picture of the study; needs training/requirements.txt."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("torch")
pytest.importorskip("gguf")

from ccoe_training.plot import plot, ticks  # noqa: E402
from ccoe_training.study import read_points  # noqa: E402

TRAINING = Path(__file__).resolve().parents[1]
POINTS = read_points(TRAINING / "study.jsonl")


def test_every_run_has_a_point():
    picture = ElementTree.fromstring(plot(POINTS))
    circles = list(picture.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(circles) == len(POINTS)
    assert all(0 < float(c.get("cx")) < 380 and 0 < float(c.get("cy")) < 300 for c in circles)


def test_the_kept_picture_shows_the_kept_runs():
    assert (TRAINING.parent / "docs" / "study.svg").read_text() == plot(POINTS)


def test_ticks_enclose_the_losses():
    assert ticks(1.0493, 1.128) == [1.04, 1.06, 1.08, 1.1, 1.12, 1.14]
    assert ticks(1.8906, 2.2707) == [1.8, 1.9, 2.0, 2.1, 2.2, 2.3]
