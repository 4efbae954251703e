"""The Slicer application that the module meets: main window, module classes, parameter nodes, packages, sample data."""

from __future__ import annotations

import sys
import types
import typing
import unittest
from pathlib import Path
from typing import Any

import slicer
import slicer.util
from packaging.requirements import Requirement
from PySide6 import QtCore, QtWidgets

from SAM3DSegmentLib.scene.application import boot_scene
from Testing.pythonqt.objects import Proxy, QtModule, wrap
from Testing.pythonqt.widgets import qMRMLWidget

answers: dict[str, bool] = {"confirm": False}
"""What the user says to a question."""

calls: dict[str, list[Any]] = {"questions": [], "pip": [], "torch": [], "samples": []}
"""What the module asked of the application."""


class Application:
    """`slicer.app`."""

    def __init__(self) -> None:
        self._q = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["Slicer"])
        self._loop = QtCore.QEventLoop()
        self._window = QtWidgets.QMainWindow()
        self._window.setObjectName("qSlicerMainWindow")
        self.startup: list[Any] = []

    def connect(self, signature: str, callback: Any) -> None:
        if signature != "startupCompleted()":
            raise AttributeError(signature)
        self.startup.append(callback)

    def topLevelWidgets(self) -> list[Any]:
        return [wrap(self._window)]

    def processEvents(self) -> None:
        # Not QApplication.processEvents: in PySide6 6.12 each call takes a reference to None away, until Python aborts.
        self._loop.processEvents()

    def layoutManager(self) -> None:
        """None, as where Slicer has no main window."""

    def moduleManager(self) -> Any:
        return types.SimpleNamespace(connect=lambda *_: True, disconnect=lambda *_: True)


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__


class ScriptedLoadableModuleWidget:
    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.parent = parent
        self.layout = parent.layout()

    def resourcePath(self, name: str) -> str:
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / name)

    def setup(self) -> None:
        pass


class ScriptedLoadableModuleLogic:
    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> Any:
        scene, tag = slicer.mrmlScene, self.moduleName
        node = scene.GetSingletonNode(tag, "vtkMRMLScriptedModuleNode")
        if not node:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(tag)
            node.SetAttribute("ModuleName", tag)
            node = scene.AddNode(node)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    def delayDisplay(self, message: str) -> None:
        slicer.app.processEvents()


def parameterNodeWrapper(cls: type) -> type:
    """Strings become parameters of the node, nodes become references; a value of another type is refused."""

    def checked(value: Any, kind: type) -> Any:
        if value is None and kind is str:
            raise ValueError("Value must not be None")
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"Value must be of type {kind}, is {value!r}")
        return value

    def initialise(self: Any, node: Any) -> None:
        self.parameterNode = node

    cls.__init__ = initialise  # type: ignore[misc]
    for name, kind in typing.get_type_hints(cls).items():
        if kind is str:
            default = getattr(cls, name, "")
            read = lambda self, n=name, d=default: self.parameterNode.GetParameter(n) or d  # noqa: E731
            write = lambda self, value, n=name: self.parameterNode.SetParameter(n, checked(value, str))  # noqa: E731
        elif issubclass(kind, slicer.vtkMRMLNode):
            read = lambda self, n=name: self.parameterNode.GetNodeReference(n)  # noqa: E731
            write = lambda self, value, n=name, k=kind: self.parameterNode.SetNodeReferenceID(  # noqa: E731
                n, checked(value, k).GetID() if value else None
            )
        else:
            raise NotImplementedError(f"a parameter of type {kind}")
        setattr(cls, name, property(read, write))
    return cls


class PyTorchUtilsLogic:
    def installTorch(self, askConfirmation: bool = False, torchVersionRequirement: str | None = None) -> None:
        calls["torch"].append(torchVersionRequirement)


class SampleDataLogic:
    @staticmethod
    def registerCustomSampleDataSource(
        category: str,
        sampleName: str,
        uris: str,
        fileNames: str,
        nodeNames: str,
        customDownloader: Any,
        thumbnailFileName: str,
    ) -> None:
        calls["samples"].append(types.SimpleNamespace(**locals()))


def load_requirements(path: Path) -> list[Requirement]:
    lines = (line.strip() for line in Path(path).read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def pip_ensure(requirements: list[Requirement], prompt_install: bool = True, requester: str | None = None) -> None:
    calls["pip"].append([str(requirement) for requirement in requirements])


def confirm(text: str, *_: Any) -> bool:
    calls["questions"].append(text)
    return answers["confirm"]


def module(name: str, **content: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    vars(made).update(content)
    return made


def install(settings: Path) -> None:
    """Put the stand-ins where `import` finds them; the application's settings lie in a folder of the test's."""
    boot_scene()
    QtCore.QSettings.setDefaultFormat(QtCore.QSettings.IniFormat)
    QtCore.QSettings.setPath(QtCore.QSettings.IniFormat, QtCore.QSettings.UserScope, str(settings))
    if "qt" in sys.modules:
        return
    QtCore.QCoreApplication.setOrganizationName("Testing")
    QtCore.QCoreApplication.setApplicationName("Slicer")
    slicer.app = Application()
    slicer.modules = types.SimpleNamespace()
    slicer.util.confirmOkCancelDisplay = confirm
    slicer.util.selectModule = select_module
    parts = {
        "ScriptedLoadableModule": [
            ScriptedLoadableModule,
            ScriptedLoadableModuleWidget,
            ScriptedLoadableModuleLogic,
            ScriptedLoadableModuleTest,
        ],
        "parameterNodeWrapper": [parameterNodeWrapper],
        "packaging": [load_requirements, pip_ensure],
    }
    for name, content in parts.items():
        made = module(f"slicer.{name}", **{item.__name__: item for item in content})
        sys.modules[made.__name__] = made
        setattr(slicer, name, made)
    sys.modules["slicer.i18n"] = module("slicer.i18n", tr=lambda text: text, translate=lambda context, text: text)
    sys.modules["qt"] = QtModule("qt")
    sys.modules["PyTorchUtils"] = module("PyTorchUtils", PyTorchUtilsLogic=PyTorchUtilsLogic)
    sys.modules["SampleData"] = module("SampleData", SampleDataLogic=SampleDataLogic)


def module_parent() -> Any:
    """The empty panel that the application gives a module."""
    parent = qMRMLWidget()
    QtWidgets.QVBoxLayout(parent)
    return Proxy(parent)


def select_module(name: str) -> None:
    """Leave the module that is shown, enter the named one."""
    getattr(slicer.modules, name + "Widget").enter()
