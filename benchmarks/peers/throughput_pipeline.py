"""A folder of photos through Hugging Face's image-classification pipeline: NETWORK WEIGHTS FOLDER BATCH.

The network is torchvision's, wrapped as the pipeline wants one. Its processor resizes to 224 x 224 without a
crop, so the answers are not the others': only the time is compared.
"""

import sys
import time
from pathlib import Path

import torch
import torchvision
from transformers import PretrainedConfig, PreTrainedModel, ViTImageProcessor, pipeline
from transformers.modeling_outputs import ImageClassifierOutput

network, weights, folder, batch = sys.argv[1:5]


class Config(PretrainedConfig):
    model_type = "wrapped"


class Wrapped(PreTrainedModel):
    config_class = Config
    main_input_name = "pixel_values"

    def __init__(self, config):
        super().__init__(config)
        self.network = torchvision.models.get_model(network, weights=None)
        self.post_init()

    def _init_weights(self, module):
        pass

    def forward(self, pixel_values, **_):
        return ImageClassifierOutput(logits=self.network(pixel_values))


model = Wrapped(Config(num_labels=1000))
model.network.load_state_dict(torch.load(weights, weights_only=True))
processor = ViTImageProcessor(
    size={"height": 224, "width": 224},
    image_mean=[0.485, 0.456, 0.406],
    image_std=[0.229, 0.224, 0.225],
)
classify = pipeline("image-classification", model=model.eval(), image_processor=processor, device="cpu")
paths = sorted(str(path) for path in Path(folder).rglob("*") if path.is_file())
start = time.monotonic()
answers = classify(paths, batch_size=int(batch), top_k=1)
print(len(answers), time.monotonic() - start)
