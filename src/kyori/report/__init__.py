"""Reports: one page, one file, no network. Arrays become figures, figures become sections, sections a page."""

from .norms import norm_rates
from .projection import Layout, Projection, layouts, project
from .run import write_run_report
from .sections import Trial
from .settling import Settled, settling_figure, settling_page
from .springs import Spring, spring_figure
from .words import LANGUAGES, Words

__all__ = [
    "LANGUAGES",
    "Layout",
    "Projection",
    "Settled",
    "Spring",
    "Trial",
    "Words",
    "layouts",
    "norm_rates",
    "project",
    "settling_figure",
    "settling_page",
    "spring_figure",
    "write_run_report",
]
