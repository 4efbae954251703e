"""Qt as PythonQt shows it: properties are attributes, signals are named by strings, unknown names raise."""

from __future__ import annotations

import types
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

MODULES = (QtCore, QtGui, QtWidgets)

callback_errors: list[BaseException] = []
"""What callbacks raised: Qt swallows it, a test must not."""


class Proxy:
    """One QObject."""

    def __init__(self, qobject: QtCore.QObject) -> None:
        object.__setattr__(self, "_q", qobject)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Proxy) and other._q is self._q

    def __hash__(self) -> int:
        return id(self._q)

    def __getattr__(self, name: str) -> Any:
        name = "objectName" if name == "name" else name
        if self._q.metaObject().indexOfProperty(name) >= 0:
            return wrap(self._q.property(name))
        if name.startswith("_"):
            raise AttributeError(name)
        method = getattr(self._q, name)
        if not callable(method) or isinstance(method, QtCore.SignalInstance):
            raise AttributeError(f"{type(self._q).__name__} has no method or property {name}")
        return lambda *arguments: wrap(method(*map(unwrap, arguments)))

    def __setattr__(self, name: str, value: Any) -> None:
        meta = self._q.metaObject()
        index = meta.indexOfProperty(name)
        if index < 0 or not meta.property(index).isWritable():
            raise AttributeError(f"{type(self._q).__name__} has no property {name} to set")
        if not self._q.setProperty(name, unwrap(value)):
            raise TypeError(f"{type(self._q).__name__}.{name} takes no {type(value).__name__}")

    def connect(self, signature: str, callback: Any) -> bool:
        """Raises where PythonQt would only warn: for a signal that does not exist."""
        signal = find_signal(self._q, signature)
        types_ = signature[signature.index("(") + 1 : -1]
        count = len(types_.split(",")) if types_ else 0

        def call(*arguments: Any) -> None:
            try:
                callback(*(wrap(argument) for argument in arguments[:count]))
            except BaseException as error:
                callback_errors.append(error)
                raise

        # Qt counts a slot's own arguments to choose among `clicked()` and `clicked(bool)`.
        signal.connect((call, lambda a: call(a), lambda a, b: call(a, b))[count] if count else lambda: call())
        return True


def find_signal(qobject: QtCore.QObject, signature: str) -> Any:
    """A bound signal; those of our own widgets, which carry VTK objects, say their C++ signature themselves."""
    declared = getattr(type(qobject), "SIGNATURES", {})
    if signature in declared:
        return getattr(qobject, declared[signature])
    if qobject.metaObject().indexOfSignal(signature) < 0:
        raise AttributeError(f"{type(qobject).__name__} has no signal {signature}")
    return getattr(qobject, signature.split("(")[0])


def wrap(value: Any) -> Any:
    if isinstance(value, QtCore.QObject):
        return Proxy(value)
    return [wrap(item) for item in value] if isinstance(value, list) else value


def unwrap(value: Any) -> Any:
    return value._q if isinstance(value, Proxy) else value


class ClassProxy:
    """One Qt class: its instances come wrapped, its enumerations and static functions are attributes."""

    def __init__(self, qt_class: type) -> None:
        self._class = qt_class

    def __call__(self, *arguments: Any) -> Any:
        return wrap(self._class(*map(unwrap, arguments)))

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._class, name)
        if isinstance(attribute, types.BuiltinFunctionType):
            return lambda *arguments: wrap(attribute(*map(unwrap, arguments)))
        return attribute


class FileDialog:
    """Answers what a test prepared; a dialog that no test expects raises."""

    def __init__(self) -> None:
        self.answers: list[str] = []

    def getOpenFileName(self, *_: Any) -> str:
        return self.answers.pop()

    def getExistingDirectory(self, *_: Any) -> str:
        return self.answers.pop()


class QtModule(types.ModuleType):
    """The module `qt`."""

    QFileDialog = FileDialog()

    def __getattr__(self, name: str) -> Any:
        if name == "QUiLoader":
            from Testing.pythonqt.widgets import UiLoader

            return UiLoader
        for module in MODULES:
            if not name.startswith("__") and name in dir(module):
                return ClassProxy(getattr(module, name))
        raise AttributeError(f"Qt has no {name}")
