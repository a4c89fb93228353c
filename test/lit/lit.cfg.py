"""lit configuration: ``.venv/bin/lit test/lit`` from the root of the checkout.

``TINYMLIR_FILECHECK`` names another FileCheck than PyPI's, LLVM's for one.
"""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

import lit.formats

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sysconfig.get_path("scripts")
SHARED = ROOT.parent / "shared"

# lit puts this name here before it runs the file.
config = globals()["config"]
config.name = "tinymlir"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
config.excludes = ["inputs"]
config.test_source_root = str(Path(__file__).parent)
config.test_exec_root = str(ROOT / "build" / "lit")

# The tools of the environment that lit itself runs in come first.
config.environment["PATH"] = os.pathsep.join([SCRIPTS, config.environment["PATH"]])
# And they are this checkout's, whichever one is installed there.
config.environment["PYTHONPATH"] = str(ROOT / "python")

filecheck = os.environ.get("TINYMLIR_FILECHECK") or str(Path(SCRIPTS, "filecheck"))
config.substitutions.append((r"\bFileCheck\b", filecheck))
config.substitutions.append(("%python", sys.executable))
config.substitutions.append(("%shared", str(SHARED)))
if SHARED.is_dir():
    config.available_features.add("shared")

mlir_opt = shutil.which("mlir-opt") or shutil.which("mlir-opt-22")
if mlir_opt:
    config.available_features.add("mlir-opt")
    config.substitutions.append((r"(?<![\w-])mlir-opt\b", mlir_opt))
