"""Draws the module's icons: python -m Testing.pythonqt.draw_icons"""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QBrush, QColor, QGuiApplication, QImage, QLinearGradient, QPainter, QPen, QRadialGradient

FOLDER = Path(__file__).resolve().parents[2] / "SAM3DSegment" / "Resources" / "Icons"


def canvas(size: int) -> tuple[QImage, QPainter]:
    image = QImage(size, size, QImage.Format_ARGB32)
    image.fill(Qt.transparent)
    painter = QPainter(image)
    painter.setRenderHint(QPainter.Antialiasing)
    painter.setPen(Qt.NoPen)
    return image, painter


def module_icon() -> QImage:
    """An axial slice with an outlined tumour and the click that found it."""
    image, painter = canvas(128)
    night = QLinearGradient(0, 0, 0, 128)
    night.setColorAt(0, QColor("#23405f"))
    night.setColorAt(1, QColor("#0f1d2e"))
    painter.setBrush(QBrush(night))
    painter.drawRoundedRect(QRectF(2, 2, 124, 124), 24, 24)
    painter.setBrush(QColor("#8fa3b5"))
    painter.drawEllipse(QPointF(64, 66), 52, 40)
    painter.setBrush(QColor("#566b80"))
    painter.drawEllipse(QPointF(64, 66), 47, 35)
    painter.setBrush(QColor("#e8eef3"))
    painter.drawEllipse(QPointF(64, 91), 7, 7)
    painter.setBrush(QColor("#73889c"))
    painter.drawEllipse(QPointF(89, 62), 15, 20)
    painter.drawEllipse(QPointF(49, 62), 25, 23)
    glow = QRadialGradient(46, 58, 18)
    glow.setColorAt(0, QColor("#ffd27a"))
    glow.setColorAt(1, QColor("#e69f00"))
    painter.setBrush(QBrush(glow))
    painter.setPen(QPen(QColor("#fff4d6"), 3))
    painter.drawEllipse(QPointF(46, 60), 16, 14)
    painter.setPen(QPen(QColor("white"), 2.5))
    painter.setBrush(QColor("#1fae4b"))
    painter.drawEllipse(QPointF(46, 60), 6, 6)
    painter.end()
    return image


def sign_icon(color: str, plus: bool) -> QImage:
    """A disc with a plus or a minus."""
    image, painter = canvas(64)
    painter.setBrush(QColor(color))
    painter.setPen(QPen(QColor("white"), 3))
    painter.drawEllipse(QPointF(32, 32), 27, 27)
    painter.setPen(QPen(QColor("white"), 8, Qt.SolidLine, Qt.RoundCap))
    painter.drawLine(18, 32, 46, 32)
    if plus:
        painter.drawLine(32, 18, 32, 46)
    painter.end()
    return image


if __name__ == "__main__":
    QGuiApplication(["", "-platform", "offscreen"])
    module_icon().save(str(FOLDER / "SAM3DSegment.png"))
    sign_icon("#1fae4b", plus=True).save(str(FOLDER / "Include.png"))
    sign_icon("#d8332f", plus=False).save(str(FOLDER / "Exclude.png"))
