"""The engines that Toroid is timed beside. Each function takes an export and a number of threads and gives a call without
arguments that runs the model once and returns its outputs as arrays; what it compiles, it compiles here or in the first
call."""
import io
import contextlib
import os
import tempfile

import torch

from harness import arrays

# Name of each, in the order of the tables' columns.
PEERS = {}


def peer(name):
    def add(make):
        PEERS[name] = make
        return make

    return add


def without_grad(module, args):
    def call():
        with torch.no_grad():
            return arrays(module(*args))

    return call


@peer("eager")
def eager(exported, threads):
    return without_grad(exported.model().module, exported.args(0))


def with_inductor(exported, mode=None, **config):
    from torch._inductor import config as settings

    torch._dynamo.reset()
    module, args = torch.export.load(exported.archive).module(), exported.args(0)
    call = without_grad(torch.compile(module, backend="inductor", fullgraph=True, mode=mode), args)
    # The settings count while it compiles, which is in the first call.
    with settings.patch(**config), open(os.devnull, "w") as nowhere:
        with contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(nowhere):
            call()
    return call


@peer("inductor")
def inductor(exported, threads):
    return with_inductor(exported)


@peer("freezing")
def freezing(exported, threads):
    return with_inductor(exported, freezing=True)


@peer("max-autotune")
def max_autotune(exported, threads):
    # Its templates for matrix products want constant weights.
    return with_inductor(exported, mode="max-autotune-no-cudagraphs", freezing=True)


@peer("aotinductor")
def aotinductor(exported, threads):
    from torch._inductor import aoti_compile_and_package, aoti_load_package

    # Its code is for the number of threads that it was compiled with.
    path = kept(exported, f".aoti{threads}.pt2", lambda path: aoti_compile_and_package(
        torch.export.load(exported.archive), package_path=path))
    return without_grad(aoti_load_package(path), exported.args(0))


def kept(exported, name, make):
    """a file beside the export that `make(path)` writes once, with what else it writes there"""
    path = exported.stem + name
    folder, base = os.path.split(path)
    if not os.path.exists(path):
        with tempfile.TemporaryDirectory(dir=folder) as work:
            with contextlib.redirect_stdout(io.StringIO()):
                make(os.path.join(work, base))
            # The file itself last: where it stands, the others do.
            for file in sorted(os.listdir(work), key=lambda f: f == base):
                os.rename(os.path.join(work, file), os.path.join(folder, file))
    return path


@peer("onnxruntime")
def onnxruntime(exported, threads):
    import onnxruntime as ort

    path = kept(exported, ".onnx", lambda path: torch.onnx.export(torch.export.load(exported.archive), (), path, dynamo=True,
                                                                  verbose=False))
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {i.name: a for i, a in zip(session.get_inputs(), exported.load("in", 0))}
    return lambda: session.run(None, feed)


@peer("openvino")
def openvino(exported, threads):
    import openvino as ov

    path = kept(exported, ".xml", lambda path: ov.save_model(ov.convert_model(torch.export.load(exported.archive)), path,
                                                             compress_to_fp16=False))
    compiled = ov.compile_model(path, "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY",
                                              "INFERENCE_PRECISION_HINT": "f32"})
    request, inputs = compiled.create_infer_request(), exported.load("in", 0)

    def call():
        result = request.infer(inputs)
        return [result[o] for o in compiled.outputs]

    return call


@peer("onednn")
def onednn(exported, threads):
    """single primitives with weights packed once, the input in oneDNN's own layout"""
    from torch.utils import mkldnn

    module = mkldnn.to_mkldnn(exported.model().module.eval())
    args = [a.to_mkldnn() if a.dtype == torch.float32 else a for a in exported.args(0)]

    def call():
        with torch.no_grad():
            return [module(*args)]

    def dense():
        return [a.to_dense().numpy() for a in call()]

    call.outputs = dense
    return call
