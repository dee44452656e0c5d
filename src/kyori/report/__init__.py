"""Reports: one page, one file, no network. Arrays become figures, figures become sections, sections a page."""

from .projection import Projection, project
from .run import write_run_report
from .sections import Trial
from .springs import spring_figure
from .words import LANGUAGES, Words

__all__ = ["LANGUAGES", "Projection", "Trial", "Words", "project", "spring_figure", "write_run_report"]
