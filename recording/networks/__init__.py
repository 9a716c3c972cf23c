"""Three networks that people really quantize: an image classifier, a detector, a transformer.

Run in this order, each with ``python -m recording.networks.<name>``:

    photos     CIFAR-10's photographs -> data/images/photos.npz
    scenes     digits pasted on photographs -> data/images/scenes.npz
    train      train one of photo, detector, vit (PyTorch, a GPU) -> data/models/<name>.onnx
    work       build, run and time what is missing of every way of INT8 (TensorRT 8.6; --gpus 1)
    gather     what the workers left -> the recordings as the course reads them
    card       measure the networks with ONNX Runtime -> data/networks.json
    one_scale  what one INT8 scale for one tensor of the detector costs, simulated on a CPU
"""
