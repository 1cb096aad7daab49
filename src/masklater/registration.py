"""A call made once another package has been imported, without importing that package here."""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def after_import(name: str, then: Callable[[], None]) -> None:
    """Call a function after the first import of a module, or at once if it is imported already.

    So `import masklater` makes our classes known to transformers' Auto classes, and still does not wait for
    transformers and torch, which most commands do not need.

    The call is made when no module of the package is half imported any more: the function may need the module that is
    being imported.
    """
    if name in sys.modules:
        then()
    else:
        sys.meta_path.insert(0, _Watcher(name, then))


class _Watcher(MetaPathFinder):
    """Finds the modules of a package through the other finders, until the awaited module has been imported."""

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self.name = name
        self.package = name.partition(".")[0]
        self.then = then
        self.half_imported = 0  # number of modules of the package

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.partition(".")[0] != self.package:
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(name, path, target)) is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, self)
                return spec
        return None

    def imported(self) -> None:
        """Note that a module has been imported, with everything it imports."""
        if self.name in sys.modules and self in sys.meta_path:
            sys.meta_path.remove(self)
            self.then()


class _Loader(Loader):
    """Loads a module through another loader, and sets that one as the module's loader."""

    def __init__(self, loader: Loader, watcher: _Watcher) -> None:
        self.loader = loader
        self.watcher = watcher

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.watcher.half_imported += 1
        try:
            self.loader.exec_module(module)
        finally:
            self.watcher.half_imported -= 1
        if not self.watcher.half_imported:
            self.watcher.imported()
