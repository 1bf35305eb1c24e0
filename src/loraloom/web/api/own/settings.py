"""The settings: what the page shows, and the few that may be changed from here."""

from typing import Annotated, Any

from fastapi import Body

from loraloom.errors import SettingsError, suggestion
from loraloom.settings import Settings
from loraloom.settingsfile import settings_file
from loraloom.web.api.models import SettingsView
from loraloom.web.api.own.routes import router as _router
from loraloom.web.service import Here, Service

router = _router("settings")

# Folders and files are named on this computer alone, never in a request.
CHANGEABLE = ("base", "default_strength", "auto_apply_triggers", "loader")


@router.get("/settings", summary="The settings")
def get_settings(service: Here) -> SettingsView:
    return _view(service)


@router.patch("/settings", summary="Change settings; they are kept in the settings file")
def change_settings(service: Here, changes: Annotated[dict[str, Any], Body(max_length=100)]) -> SettingsView:
    """`base` is a name of those that the server offers. Folders are changed with `loraloom settings` or in the file."""
    for name in changes:
        if name not in CHANGEABLE:
            known = "is not changed over HTTP" if name in Settings.model_fields else f"is no setting{suggestion(name[:200], CHANGEABLE)}"
            raise SettingsError(f"{name[:200]!r} {known}; these are: {', '.join(CHANGEABLE)}")
    if "base" in changes:
        if not isinstance(changes["base"], str):
            raise SettingsError("base: write the name of a base")
        changes = {**changes, "base": service.base(changes["base"]).source}
    service.change_settings(changes)
    return _view(service)


def _view(service: Service) -> SettingsView:
    settings = service.settings
    values = settings.model_dump(mode="json", exclude={"base"}) | {"base": service.base(None).name}
    return SettingsView(
        values=values, fixed=tuple(name for name in values if name in Settings.fixed() or name not in CHANGEABLE), file=str(settings_file())
    )
