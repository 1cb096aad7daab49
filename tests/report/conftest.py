"""What tests of reports share."""

from typing import TYPE_CHECKING

import pytest

from masklater.report import curves, scaling_plots
from masklater.report.curves import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made as ever, but become no pixels, which takes most of a report's time: for tests of what is said."""

    def picture(figure: "Figure", name: str, title: str) -> Picture:
        assert figure.axes
        return Picture(name, title, "<svg></svg>", b"")

    for module in (curves, scaling_plots):
        monkeypatch.setattr(module, "picture", picture)
