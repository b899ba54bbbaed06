"""lensctl: search a photo library by image and instruction."""

import os

__version__ = "0.1.0"

# Nothing is uploaded: onnxruntime (1.32, on Linux too), Ray and huggingface_hub report to their
# makers unless they are told not to before they are imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
