"""What can be wrong with what the user gave us: one class per kind, each message says what to do."""


class UserError(Exception):
    """Shown to the user as one sentence; nothing that the user made is lost."""


class ScanError(UserError):
    """A scan that is missing, unreadable, or not one finite scalar 3D volume."""


class CaseError(UserError):
    """A table of cases that cannot be read, or a scan and its label map that do not belong together."""


class ClickFormatError(UserError):
    """A click that is not written as three numbers."""


class ClickOutsideError(UserError):
    """A click that lies outside the volume."""


class ClickTooFarError(UserError):
    """An include click too far from the others to belong to one object."""


class NoIncludeClickError(UserError):
    """Exclude clicks alone name no object."""


class UnknownModelError(UserError):
    """A model that is neither in the catalogue nor a file."""


class TooManyPartsError(UserError):
    """A mask in so many separate parts that no list of clicks could hold it."""


class ModelStoreError(UserError):
    """A model that cannot be downloaded, kept or deleted."""


class CheckpointError(UserError):
    """A checkpoint that is truncated, of another network, or not plain tensors."""


class DeviceError(UserError):
    """A device that is absent or out of memory."""


class EngineError(UserError):
    """The engine process cannot be started, or fails at the same request again and again."""


class ViewerError(UserError):
    """An address that the browser viewer cannot listen on."""


class ExportError(UserError):
    """A target that cannot be written."""


class ConfigurationError(UserError):
    """A training configuration that cannot be read, or says what cannot be done."""


class ReplayError(UserError):
    """A segment that its recorded clicks alone do not explain."""


class CancelledError(Exception):
    """The user, or a newer click, called the evaluation off."""
