"""Slicer's own widgets that the panel uses, as far as it uses them."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any, ClassVar

import slicer
from PySide6 import QtUiTools
from PySide6.QtCore import Property, QBuffer, QItemSelection, QPointF, Qt, Signal
from PySide6.QtGui import QColor, QIcon, QPainter, QPen, QPixmap, QPolygonF
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QHeaderView, QTableWidget, QTableWidgetItem, QVBoxLayout, QWidget

from Testing.pythonqt.objects import Proxy, find_signal, unwrap

HEADER_HEIGHT = 26


def plain(kind: Any, name: str, default: Any) -> Any:
    """A property that only keeps its value."""
    return Property(kind, lambda self: getattr(self, "_" + name, default), lambda self, v: setattr(self, "_" + name, v))


def swatch(color: QColor) -> QIcon:
    """A filled square."""
    pixmap = QPixmap(32, 32)
    pixmap.fill(color)
    return QIcon(pixmap)


def eye_icon() -> QIcon:
    """What stands for visible."""
    pixmap = QPixmap(32, 32)
    pixmap.fill(Qt.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.Antialiasing)
    painter.setPen(QPen(QColor("#404040"), 2.5))
    painter.setBrush(QColor("white"))
    painter.drawEllipse(QPointF(16, 16), 13, 8)
    painter.setBrush(QColor("#404040"))
    painter.drawEllipse(QPointF(16, 16), 4.5, 4.5)
    painter.end()
    return QIcon(pixmap)


class qMRMLWidget(QWidget):
    mrmlSceneChanged = Signal(object)
    SIGNATURES: ClassVar[dict[str, str]] = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}

    def setMRMLScene(self, scene: slicer.vtkMRMLScene) -> None:
        self.mrmlSceneChanged.emit(scene)


class ctkCollapsibleButton(QWidget):
    """A header that shows and hides what lies below."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._text, self._collapsed = "", False
        self.setContentsMargins(0, HEADER_HEIGHT, 0, 0)

    text = Property(str, lambda self: self._text, lambda self, value: setattr(self, "_text", value))

    def _set_collapsed(self, collapsed: bool) -> None:
        self._collapsed = collapsed
        self.setMaximumHeight(HEADER_HEIGHT if collapsed else 16777215)

    collapsed = Property(bool, lambda self: self._collapsed, _set_collapsed)

    def sizeHint(self) -> Any:
        hint = super().sizeHint()
        hint.setHeight(HEADER_HEIGHT if self._collapsed else hint.height())
        return hint

    minimumSizeHint = sizeHint

    def showEvent(self, event: Any) -> None:
        for child in self.findChildren(QWidget, options=Qt.FindDirectChildrenOnly):
            if self._collapsed:
                child.hide()
        super().showEvent(event)

    def paintEvent(self, _event: Any) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.Antialiasing)
        painter.setPen(Qt.NoPen)
        painter.setBrush(QColor("#d4d4d4"))
        painter.drawRoundedRect(0, 1, self.width() - 1, HEADER_HEIGHT - 3, 4, 4)
        painter.setBrush(self.palette().buttonText())
        x, y = 12, HEADER_HEIGHT / 2
        arrow = ((-3, -5), (4, 0), (-3, 5)) if self._collapsed else ((-5, -3), (5, -3), (0, 4))
        painter.drawPolygon(QPolygonF([QPointF(x + dx, y + dy) for dx, dy in arrow]))
        painter.setPen(self.palette().buttonText().color())
        painter.drawText(26, 0, self.width() - 30, HEADER_HEIGHT, Qt.AlignVCenter, self._text)


class qMRMLNodeComboBox(QWidget):
    """The scene's nodes of some classes; without None the first one is taken as soon as there is one."""

    currentNodeChanged = Signal(object)
    SIGNATURES: ClassVar[dict[str, str]] = {"currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged"}
    EVENTS = ("NodeAddedEvent", "NodeRemovedEvent", "EndBatchProcessEvent")

    nodeTypes = plain("QStringList", "nodeTypes", [])
    showChildNodeTypes = plain(bool, "showChildNodeTypes", True)
    noneEnabled = plain(bool, "noneEnabled", False)
    addEnabled = plain(bool, "addEnabled", True)
    removeEnabled = plain(bool, "removeEnabled", True)
    noneDisplay = plain(str, "noneDisplay", "None")

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._box, self._scene, self._current = QComboBox(self), None, None
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self._box.activated.connect(lambda index: self.setCurrentNode(self._nodes()[index]))

    def setMRMLScene(self, scene: slicer.vtkMRMLScene) -> None:
        self._scene = scene
        self._observations = [scene.AddObserver(getattr(scene, name), self._update) for name in self.EVENTS]
        self._update()

    def stop_observing(self) -> None:
        for tag in self._observations:
            self._scene.RemoveObserver(tag)

    def currentNode(self) -> Any:
        return self._current

    def setCurrentNode(self, node: Any) -> None:
        """A node that is not listed is none."""
        node = node if node in self._nodes() else None
        if node is not self._current:
            self._current = node
            self._show()
            self.currentNodeChanged.emit(node)

    def _nodes(self) -> list[Any]:
        nodes = []
        for name in self.nodeTypes:
            for index in range(self._scene.GetNumberOfNodesByClass(name)):
                node = self._scene.GetNthNodeByClass(index, name)
                if not node.GetHideFromEditors() and (self.showChildNodeTypes or node.IsA(name) == 1):
                    nodes.append(node)
        return [None, *nodes] if self.noneEnabled else nodes

    def _update(self, *_: Any) -> None:
        if self._scene.IsBatchProcessing():
            return
        nodes = self._nodes()
        begins = not self.noneEnabled and not self._box.count() and self._current is None
        if begins or (self._current and self._current not in nodes):
            self._current = nodes[0] if nodes else None
            self.currentNodeChanged.emit(self._current)
        self._show()

    def _show(self) -> None:
        nodes = self._nodes()
        self._box.clear()
        self._box.addItems([node.GetName() if node else self.noneDisplay for node in nodes])
        self._box.setCurrentIndex(nodes.index(self._current) if self._current in nodes else -1)


class qMRMLSegmentsTableView(qMRMLWidget):
    """Visibility, colour and name of each segment; one row can be selected."""

    selectionChanged = Signal(QItemSelection, QItemSelection)
    SIGNATURES: ClassVar[dict[str, str]] = {
        **qMRMLWidget.SIGNATURES,
        "selectionChanged(QItemSelection,QItemSelection)": "selectionChanged",
    }

    headerVisible = plain(bool, "headerVisible", True)
    opacityColumnVisible = plain(bool, "opacityColumnVisible", True)
    statusColumnVisible = plain(bool, "statusColumnVisible", True)
    layerColumnVisible = plain(bool, "layerColumnVisible", True)
    filterBarVisible = plain(bool, "filterBarVisible", False)
    selectionMode = plain(int, "selectionMode", 3)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._node, self._observations, self._ids = None, [], []
        self._table = QTableWidget(0, 3, self)
        self._table.setSelectionBehavior(QTableWidget.SelectRows)
        self._table.setSelectionMode(QTableWidget.SingleSelection)
        self._table.setShowGrid(False)
        self._table.verticalHeader().hide()
        self._table.verticalHeader().setDefaultSectionSize(24)
        self._table.horizontalHeader().hide()
        self._table.horizontalHeader().setSectionResizeMode(2, QHeaderView.Stretch)
        self._table.setColumnWidth(0, 28)
        self._table.setColumnWidth(1, 28)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._table)
        self._table.selectionModel().selectionChanged.connect(self.selectionChanged)
        self._table.itemChanged.connect(self._edited)

    def segmentationNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        if node is self._node:
            return
        for observed, tag in self._observations:
            observed.RemoveObserver(tag)
        self._node, self._observations = node, []
        if node:
            segmentation = node.GetSegmentation()
            for event in (segmentation.SegmentAdded, segmentation.SegmentRemoved, segmentation.SegmentModified):
                self._observations.append((segmentation, segmentation.AddObserver(event, self._update)))
        self._update()

    def selectedSegmentIDs(self) -> tuple[str, ...]:
        return tuple(self._ids[index.row()] for index in self._table.selectionModel().selectedRows(2))

    def setSelectedSegmentIDs(self, ids: list[str]) -> None:
        """Those that are not in the table are passed over."""
        if tuple(ids) == self.selectedSegmentIDs():
            return
        self._table.clearSelection()
        for segment_id in ids:
            if segment_id in self._ids:
                self._table.selectRow(self._ids.index(segment_id))

    def _update(self, *_: Any) -> None:
        selected = self.selectedSegmentIDs()
        segmentation = self._node.GetSegmentation() if self._node else None
        self._ids = list(segmentation.GetSegmentIDs()) if segmentation else []
        self._table.blockSignals(True)
        self._table.setRowCount(len(self._ids))
        for row, segment_id in enumerate(self._ids):
            segment = segmentation.GetSegment(segment_id)
            color = QColor.fromRgbF(*segment.GetColor())
            items = (QTableWidgetItem(eye_icon(), ""), QTableWidgetItem(swatch(color), ""), segment.GetName())
            for column, item in enumerate((*items[:2], QTableWidgetItem(items[2]))):
                self._table.setItem(row, column, item)
        self._table.blockSignals(False)
        if selected and selected[0] in self._ids and self.selectedSegmentIDs() != selected:
            self.setSelectedSegmentIDs(list(selected))

    def _edited(self, item: QTableWidgetItem) -> None:
        if item.column() == 2:
            self._node.GetSegmentation().GetSegment(self._ids[item.row()]).SetName(item.text())


CUSTOM = (qMRMLWidget, ctkCollapsibleButton, qMRMLNodeComboBox, qMRMLSegmentsTableView)


class UiLoader:
    """Builds a .ui file; connections of signals that carry VTK objects are made here, for Qt cannot."""

    def load(self, file: Any) -> Proxy:
        loader = QtUiTools.QUiLoader()
        for widget_class in CUSTOM:
            loader.registerCustomWidget(widget_class)
        path = unwrap(file).fileName()
        root = ElementTree.parse(path).getroot()
        connections = root.find("connections")
        root.remove(connections)
        used = {element.text for element in root.iterfind("customwidgets/customwidget/class")}
        missing = used - {widget_class.__name__ for widget_class in CUSTOM}
        if missing:
            raise NotImplementedError(f"The stand-in has no {missing}")
        buffer = QBuffer()
        buffer.setData(ElementTree.tostring(root))
        widget = loader.load(buffer)
        for connection in connections:
            sender, signal, receiver, slot = (connection.findtext(n) for n in ("sender", "signal", "receiver", "slot"))
            source = widget if sender == widget.objectName() else widget.findChild(QWidget, sender)
            target = widget.findChild(QWidget, receiver)
            find_signal(source, signal).connect(getattr(target, slot.split("(")[0]))
        return Proxy(widget)
