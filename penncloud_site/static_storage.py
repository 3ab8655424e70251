"""Static files under names that hold their hash, compressed beside them: browsers may keep them for ever."""

from __future__ import annotations

from whitenoise.storage import CompressedManifestStaticFilesStorage


class HashedStorage(CompressedManifestStaticFilesStorage):
    """WhiteNoise's storage. Module scripts import one another by their hashed names too."""

    support_js_module_import_aggregation = True
