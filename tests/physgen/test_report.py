"""The report is one valid page, shows every row, and loads nothing."""

import base64
import dataclasses
import html.parser
import math
import os
import re

import pytest
from matplotlib.figure import Figure

from ising import Ising, exact, lattices
from ising.stats import Estimate
from physgen import report
from physgen.comparison import NOISE_FLOOR, groups, table, unlikely
from physgen.divergence import FORWARD, REVERSE, Divergence, Joint
from tests.physgen.test_plots import comparison

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(html.parser.HTMLParser):
    """Checks that tags nest, and collects texts by tag, attributes and images."""

    def __init__(self, text: str):
        super().__init__()
        self.stack, self.attributes, self.cells, self.tags = [], [], [], []
        self.feed(text)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.stack.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.stack):
            self.cells[-1] += data


@pytest.fixture(scope="module")
def rows():
    floor = comparison(2.0, Divergence(FORWARD, "histogram", Estimate(0.001, 0.002), "m"), name=NOISE_FLOOR)
    good = comparison(2.0, Divergence(FORWARD, "exact", Estimate(1e-4, 0.0)), name="MADE")
    bad = comparison(
        2.0, Divergence(FORWARD, "bound", Estimate(9.0, 0.1), note="a <bound>"), energy=4.0, name="VAE"
    )
    return {
        "made": dataclasses.replace(good, noise_floor=floor, ess=0.5, joint=Joint(3.0, 5, 0.7, ("e",))),
        "vae": dataclasses.replace(bad, joint=Joint(900.0, 5, 0.0, ("e",)), provenance={"seed": 12345}),
        "GAN <script>alert(1)</script>": dataclasses.replace(comparison(2.0), note="It has no density."),
        "rbm": comparison(3.0, Divergence(REVERSE, "estimated", Estimate(-0.01, 0.02)), energy=math.nan),
    }


@pytest.fixture(scope="module")
def text(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "new" / "report.html"
    figure = Figure()
    figure.subplots().plot([0, 1])
    assert report.write(path, rows, title="A & B", figures={"Training": figure}) == path
    return path.read_text(encoding="utf-8")


@pytest.fixture
def _no_pictures(monkeypatch):
    """Of single temperatures, which take nearly all the time; ``text`` has them."""
    monkeypatch.setattr(report, "_pictures", lambda group: [])  # noqa: ARG005


def test_every_row_is_there(text):
    cells = [" ".join(cell.split()) for cell in Page(text).cells]
    for label in ("MADE", "VAE", "GAN <script>alert(1)</script>", "rbm"):
        assert cells.count(label) >= 3, label  # divergences, observables, correlations
    assert cells.count(NOISE_FLOOR) == 3
    assert cells.count("exact") == 2
    assert cells.count("Monte Carlo") >= 4


def test_kinds_directions_and_bounds_are_named(text):
    cells = [" ".join(cell.split()) for cell in Page(text).cells]
    assert "≤ 9.00(10)bound" in cells
    assert "0.0001exact" in cells
    assert "-0.010(20)estimated" in cells
    assert f"{FORWARD} per site" in cells
    assert f"{REVERSE} per site" in cells


def test_far_values_are_marked_and_near_ones_are_not(text):
    found = re.findall(r'<span class="far">([^<]*)</span>', text)
    assert "+353.6 ▲" in found  # (4 + 1) / hypot(0.01, 0.01)
    assert "+nan ▲" in found or "nan ▲" in found
    assert "0 ▲" in found
    assert all("▲" in x for x in found)
    assert "0.7 ▲" not in found


def test_the_page_is_self_contained(text):
    page = Page(text)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    addresses = [
        value for name, value in page.attributes if name in ("src", "href", "srcset", "data", "action")
    ]
    assert all(a.startswith(("data:image/svg+xml;base64,", "#")) for a in addresses)
    assert "url(" not in text
    assert "@import" not in text
    images = [base64.b64decode(a.partition(",")[2]).decode() for a in addresses if a.startswith("data:")]
    assert len(images) == 6 + 5 + 2 + 1  # at T = 2, at T = 3, against T, and the one that was passed
    for image in images:
        assert "</svg>" in image
        assert not re.findall(r'(?:href|src)="(?!#|data:)', image)


def test_foreign_text_is_escaped(text):
    assert "<script>" not in text
    assert "a &lt;bound&gt;" in text
    assert "<title>A &amp; B</title>" in text


def test_seeds_versions_and_definitions_are_at_the_foot(text):
    assert "12345" in text
    for word in ("torch ", "numpy ", "physgen ", "python "):
        assert word in text.partition("<footer>")[2]
    for word in ("KL(p‖q) per site</dt>", "ESS</dt>", "joint p-value</dt>", "jackknife", "ln 2"):
        assert word in text
    assert "viewport" in text


@pytest.mark.usefixtures("_no_pictures")
def test_an_interrupted_write_leaves_the_old_page(rows, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        report.write(path, {"one": rows["vae"]})
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text() == "old"


@pytest.mark.usefixtures("_no_pictures")
def test_the_curve_ends_above_zero_temperature(tmp_path):
    """A margin of 6 % of the range from 0.25 to 5 would reach below T = 0."""
    rows = {str(T): comparison(T, name="MADE") for T in (0.25, 5.0)}
    assert report.write(tmp_path / "report.html", rows).exists()


def test_groups_are_in_rising_temperature_and_three_sigmas_are_two_sided():
    rows = {str(T): comparison(T, name="MADE") for T in (3.0, 1.0, 2.0)}
    assert [group.first.temperature for group in groups(rows)] == pytest.approx([1.0, 2.0, 3.0])
    assert unlikely(0.0026)
    assert not unlikely(0.0028)


@pytest.mark.usefixtures("_no_pictures")
def test_curves_are_the_exact_values_at_their_temperatures(tmp_path, monkeypatch):
    curves = {}
    monkeypatch.setattr(
        report.plots, "observable_with_pulls", lambda *args: curves.update({args[2]: args[3]})
    )
    report.write(tmp_path / "report.html", {str(T): comparison(T, name="MADE") for T in (2.0, 3.0)})
    T, values = curves["energy"]
    model = Ising(lattices.square(4))
    assert values[[0, -1]] == pytest.approx([exact.known(model, 1 / t)["energy"] for t in T[[0, -1]]])


def test_columns_of_the_table_are_in_the_order_of_its_heading():
    found = {"e": Estimate(0.1, 0.01), "m": Estimate(0.5, 0.01)}
    row = comparison(2.0, *(Divergence(FORWARD, "histogram", value, of) for of, value in found.items()))
    lines = table({"x": row}).splitlines()
    heading = next(line for line in lines if "KL hist e" in line)
    assert heading.index("KL hist e") < heading.index("KL hist m")
    assert next(line for line in lines if line.startswith("x ")).split()[4:6] == ["0.100(10)", "0.500(10)"]


@pytest.mark.usefixtures("_no_pictures")
def test_an_exact_value_with_an_error_shows_it(tmp_path):
    row = comparison(2.0, Divergence(FORWARD, "exact", Estimate(0.25, 0.01)))
    page = Page(report.write(tmp_path / "report.html", {"VAE": row}).read_text(encoding="utf-8"))
    assert "0.250(10)exact" in ["".join(cell.split()) for cell in page.cells]


def test_nothing_to_report_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one comparison, got none"):
        report.write(tmp_path / "report.html", {})


def test_the_same_comparisons_give_the_same_bytes(rows, tmp_path):
    one, two = (report.write(tmp_path / f"{i}.html", {"vae": rows["vae"]}).read_bytes() for i in range(2))
    assert one == two
