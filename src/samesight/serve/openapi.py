"""x"""
from typing import Any
from samesight.serve.settings import Settings
def description(settings: Settings) -> dict[str, Any]:
    return {}
