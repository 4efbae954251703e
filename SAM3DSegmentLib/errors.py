"""What can be wrong with what the user gave us: one class per kind, each message says what to do."""


class UserError(Exception):
    """Shown to the user as one sentence; nothing that the user made is lost."""


class ScanError(UserError):
    """A scan that is missing, unreadable, or not one finite scalar 3D volume."""


class ClickOutsideError(UserError):
    """A click that lies outside the volume."""


class NoIncludeClickError(UserError):
    """Exclude clicks alone name no object."""


class UnknownModelError(UserError):
    """A model that is neither in the catalogue nor a file."""


class CheckpointError(UserError):
    """A checkpoint that is truncated, of another network, or not plain tensors."""


class DeviceError(UserError):
    """A device that is absent or out of memory."""


class EngineError(UserError):
    """The engine process cannot be started, or fails at the same request again and again."""


class ExportError(UserError):
    """A target that cannot be written."""


class CancelledError(Exception):
    """The user, or a newer click, called the evaluation off."""
