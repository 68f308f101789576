"""Results as matplotlib figures. The only package that imports matplotlib, and never pyplot: no display, no state.

One module for each kind of result, under its name, with `plot(result)`; `result.plot()` finds it.
"""

try:
    import matplotlib as _matplotlib  # noqa: F401
except ImportError as error:
    raise ImportError("expected matplotlib for plots; pip install 'fastfreq[plots]'") from error

from ._frame import figure_png, save_png
from .band_curves import plot_filtered
from .gallery import plot_basis_gallery

__all__ = ["figure_png", "plot_basis_gallery", "plot_filtered", "save_png"]
