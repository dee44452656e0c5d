"""Optional packages, imported where they are used."""

import importlib
from types import ModuleType

from .errors import MissingExtraError

__all__ = ["require"]


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import ``module`` or say which extra brings it.

    Args:
        module: Dotted name of the module, e.g. ``"timm"``.
        extra: The extra of Kyori that installs it, e.g. ``"image"``.
        purpose: What it is needed for, as it stands in the message.

    Raises:
        MissingExtraError: The module cannot be imported.

    >>> require("json", extra="image", purpose="an example").__name__
    'json'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise MissingExtraError(
            f'{purpose} needs the package {package} ({error}); install it with: pip install "kyori[{extra}]"'
        ) from error
