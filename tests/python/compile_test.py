"""Compilations from Python: options, failures with their places, reports, the extension's GraphBuilder, memory."""
import gc
import json
import os
import signal
import sys
import tempfile
import threading
import time
import unittest

import numpy as np
import torch
from torch import nn

import toroid
from toroid import _native


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


def exported(module, *args):
    with torch.no_grad():
        return torch.export.export(module.eval(), args)


class Compile(unittest.TestCase):
    def test_options_and_report(self):
        steps, progress = [], []
        model = Mlp()
        with tempfile.TemporaryDirectory() as folder:
            program = toroid.compile(exported(model, torch.randn(2, 8)), target="x86-64-v3", threads=1, cache_folder="",
                                     dump_folder=f"{folder}/dump", time=lambda *t: steps.append(t),
                                     progress=lambda *p: progress.append(p))
            self.assertIn("02-lower.loops", os.listdir(f"{folder}/dump"))
        self.assertIn("build", {step for step, detail, seconds in steps})
        self.assertLessEqual({"lower", "build"}, {step for step, done, total in progress})
        report = program.report()
        self.assertTrue(report["target"].startswith("x86-64-v3"))
        self.assertGreater(len(report["kernels"]), 0)
        self.assertIn(report["kernels"][0]["name"], str(report))
        self.assertEqual(report["signature"]["inputs"][0]["dtype"], "f32")
        self.assertIn("x: f32[2, 8]", repr(program))
        with self.assertRaisesRegex(TypeError, "no option `traget`"):
            toroid.compile(exported(model, torch.randn(2, 8)), traget="native")
        with self.assertRaisesRegex(toroid.Error, "bad_option"):
            toroid.compile(exported(model, torch.randn(2, 8)), target="pdp-11")
        with self.assertRaisesRegex(TypeError, "not a `Mlp`"):
            toroid.compile(model)

    def test_a_cache_that_cannot_be_written_to_is_noted(self):
        model, x = Mlp(), torch.randn(2, 8)
        with tempfile.TemporaryDirectory() as folder:
            torch.export.save(exported(model, x), f"{folder}/m.pt2")
            open(f"{folder}/file", "w").close()
            package = _native.compile(f"{folder}/m.pt2", {"cache_folder": f"{folder}/file"})
            self.assertIn("no cache: cannot create folder", package.summary)

    def test_saving_follows_links_and_replaces_no_pipe(self):
        model, x = Mlp(), torch.randn(2, 8)
        with tempfile.TemporaryDirectory() as folder:
            compiled = toroid.compile(exported(model, x))
            compiled.save(f"{folder}/first.pt2")
            os.mkfifo(f"{folder}/pipe")
            for name, program in (("a", compiled), ("b", toroid.load(f"{folder}/first.pt2"))):
                os.symlink(f"real_{name}", f"{folder}/link_{name}")
                program.save(f"{folder}/link_{name}")
                self.assertTrue(os.path.islink(f"{folder}/link_{name}"))
                torch.testing.assert_close(toroid.load(f"{folder}/real_{name}")(x), model(x))
                with self.assertRaisesRegex(toroid.Error, "io: cannot write .*not a regular file"):
                    program.save(f"{folder}/pipe")
            self.assertFalse(os.path.isfile(f"{folder}/pipe"))

    def test_sizes_of_caches_that_are_none(self):
        before = os.environ.get("TOROID_CACHE_MB")
        try:
            for text in ("abc", "-1", "0", "1.5", "\u0664"):
                os.environ["TOROID_CACHE_MB"] = text
                with self.assertRaisesRegex(toroid.Error, "bad_option: TOROID_CACHE_MB"):
                    toroid.compile(exported(Mlp(), torch.randn(2, 8)))
        finally:
            os.environ.pop("TOROID_CACHE_MB")
            if before is not None:
                os.environ["TOROID_CACHE_MB"] = before

    def test_deep_nests_of_bytes(self):
        # A nest with more than eight variables, of which none may be called as the type `i8`.
        class Pool(nn.Module):
            def forward(self, x):
                return torch.max_pool3d(x, 3, 2, 1)

        x = torch.randint(-100, 100, (1, 2, 3, 6, 5), dtype=torch.int8)
        self.assertTrue(torch.equal(toroid.compile(exported(Pool(), x))(x), Pool()(x)))

    def test_from_a_path(self):
        model, x = Mlp(), torch.randn(2, 8)
        with tempfile.TemporaryDirectory() as folder:
            torch.export.save(exported(model, x), f"{folder}/m.pt2")
            program = toroid.compile(f"{folder}/m.pt2")
            program.save(f"{folder}/a.pt2")
            loaded = toroid.load(f"{folder}/a.pt2", threads=1, verify=True)
            self.assertEqual(loaded.threads, 1)
            loaded.save(f"{folder}/b.pt2")
            with open(f"{folder}/a.pt2", "rb") as a, open(f"{folder}/b.pt2", "rb") as b:
                self.assertEqual(a.read(), b.read())
            with torch.no_grad():
                torch.testing.assert_close(program(x), model(x))
                torch.testing.assert_close(loaded(x), model(x))
            with self.assertRaises(toroid.Error) as raised:
                toroid.load(f"{folder}/nothing.pt2")
            self.assertEqual(raised.exception.kind, "io")
            with open(f"{folder}/junk.pt2", "w") as file:
                file.write("junk")
            with self.assertRaisesRegex(toroid.Error, "bad_file"):
                toroid.load(f"{folder}/junk.pt2")
            with self.assertRaisesRegex(toroid.Error, "io"):
                program.save(f"{folder}/no/such/folder.pt2")

    def test_weights(self):
        model, other, x = Mlp(), Mlp(), torch.randn(2, 8)
        program = toroid.compile(exported(model, x))
        program.set_weights(other.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(program(x), other(x))
        with self.assertRaises(toroid.Error):
            program.set_weights({"first.weight": torch.randn(3, 3)})

    def test_unsupported_ops(self):
        class Two(nn.Module):
            def forward(self, x):
                return torch._euclidean_dist(x, x), torch._aminmax(x)

        with self.assertRaises(toroid.UnsupportedError) as raised:
            toroid.compile(exported(Two(), torch.randn(3, 3)))
        ops = raised.exception.ops
        self.assertEqual(sorted(op.op for op in ops), ["aten._aminmax.default", "aten._euclidean_dist.default"])
        for op in ops:
            self.assertIn("compile_test.py", op.place)

    def test_failing_compiler(self):
        with tempfile.TemporaryDirectory() as folder:
            # Says its version like g++, then fails.
            path = f"{folder}/g++"
            with open(path, "w") as file:
                file.write('#!/bin/sh\ncase "$*" in *version*) exec g++ "$@";; esac\necho "m.cpp:1: error: moon phase" >&2\nexit 1\n')
            os.chmod(path, 0o755)
            with self.assertRaises(toroid.CompileError) as raised:
                toroid.compile(exported(Mlp(), torch.randn(2, 8)), compiler=path, cache_folder="",
                               temporary_folder=folder)
            self.assertIn("moon phase", str(raised.exception))
            self.assertIn(folder, str(raised.exception))
            with self.assertRaises(toroid.Error):
                toroid.compile(exported(Mlp(), torch.randn(2, 8)), search_path=folder + "/none", cache_folder="")

    def test_interrupted(self):
        threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        with self.assertRaises(KeyboardInterrupt):
            while True:
                toroid.compile(exported(Mlp(), torch.randn(2, 8)), cache_folder="")

        def fail(*_):
            raise ZeroDivisionError

        with self.assertRaises(ZeroDivisionError):
            toroid.compile(exported(Mlp(), torch.randn(2, 8)), progress=fail)

    def test_compiles_at_once(self):
        programs = [exported(nn.Sequential(nn.Linear(8, n), nn.Tanh()), torch.randn(2, 8)) for n in range(1, 5)]
        done = [None] * len(programs)

        def work(i):
            done[i] = toroid.compile(programs[i], cache_folder="", jobs=1)

        workers = [threading.Thread(target=work, args=(i,)) for i in range(len(programs))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        x = torch.randn(2, 8)
        for program, one in zip(programs, done):
            with torch.no_grad():
                torch.testing.assert_close(one(x), program.module()(x))


class Builder(unittest.TestCase):
    def test_call_by_call(self):
        graph = _native.GraphBuilder("mlp")
        graph.symbol("s0", 1, 64, 8)
        x = graph.input("x", "f32", ["s0", 4])
        weight = np.random.randn(3, 4).astype(np.float32)
        count = sys.getrefcount(weight)
        storage = graph.storage(weight.ctypes.data, weight.nbytes, weight)
        self.assertEqual(sys.getrefcount(weight), count + 1)
        w = graph.weight("fc.weight", "f32", [3, 4], storage, strides=[4, 1])
        (y,) = graph.call("aten.linear.default", [x, w], {}, ("fc", "model.py", 12), [("f32", ["s0", 3], None)])
        self.assertEqual(graph.type_text(y), "f32[s0, 3]")
        (z,) = graph.call("aten.sum.dim_IntList", (y, [-1]), {"keepdim": False})
        (z,) = graph.call("aten._to_copy.default", [z], {"dtype": _native.Dtype("f64")})
        parts = graph.call("aten.split.Tensor", [y, 1, 1])
        self.assertEqual(len(parts), 3)
        (joined,) = graph.call("aten.cat.default", [[parts[2], parts[0]], 1])
        for tensor in (z, joined):
            graph.output(tensor)
        graph.size_output(_native.Size("2*s0"))
        graph.constant_output("text")
        self.assertIn("aten.linear.default", graph.text())
        self.assertIn("model.py:12", graph.text())
        package = _native.compile(graph)
        del graph
        call = toroid._program.boxed_call(package)
        self.assertTrue(call._boxed_call)
        call._boxed_call = True
        with self.assertRaises(AttributeError):
            call._boxed_call = False
        given = [torch.randn(2, 4)]
        toroid._program.boxed_call(package, trusted=True)(given)
        self.assertEqual(given, [])
        value = torch.randn(5, 4)
        total, columns, size, text = call([value])
        want = value @ torch.from_numpy(weight).t()
        self.assertEqual(total.dtype, torch.float64)
        torch.testing.assert_close(total.float(), want.sum(-1))
        torch.testing.assert_close(columns, want[:, [2, 0]])
        self.assertEqual((size, text), (10, "text"))
        del x, w
        gc.collect()
        self.assertEqual(sys.getrefcount(weight), count)

    def test_what_is_refused(self):
        graph = _native.GraphBuilder()
        x = graph.input("x", "f32", [2, 3])
        with self.assertRaises(toroid.UnsupportedError) as raised:
            graph.call("aten.no_such_op.default", [x])
        self.assertEqual(raised.exception.ops, [("aten.no_such_op.default", "")])
        for work in (lambda: graph.input("y", "f33", [1]), lambda: graph.input("y", "f32", ["s9"]),
                     lambda: graph.call("aten.relu.default", []), lambda: graph.call("aten.relu.default", [x], {"y": 1}),
                     lambda: graph.weight("w", "f32", [4], 3)):
            with self.assertRaisesRegex(toroid.Error, "bad_graph"):
                work()
        with self.assertRaises(TypeError):
            graph.call("aten.relu.default", [object()])
        with self.assertRaises(TypeError):
            graph.call("aten.cat.default", [[x, 1]])

    def test_layouts_of_pytorch(self):
        # The structs of native/dlpack_api.h against a tensor whose every field is known.
        x = torch.randn(40)[3:27].view(4, 6)[:, ::2]
        graph = _native.GraphBuilder()
        t = graph.input("x", "f32", [4, 3])
        graph.output(graph.call("aten.add.Tensor", [t, 1])[0])
        (y,) = toroid._program.boxed_call(_native.compile(graph))([x])
        torch.testing.assert_close(y, x + 1)


class Memory(unittest.TestCase):
    def test_nothing_stays(self):
        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        def mapped():
            with open("/proc/self/maps") as file:
                return sum("toroid_model" in line or "memfd" in line for line in file)

        program = exported(Mlp(), torch.randn(2, 8))
        x = torch.randn(2, 8)

        def once():
            with torch.no_grad():
                toroid.compile(program, jobs=1)(x)

        count = int(os.environ.get("TOROID_MEMORY_LOOPS", "30"))
        for _ in range(10):
            once()
        gc.collect()
        before, maps, files = resident(), mapped(), len(os.listdir("/proc/self/fd"))
        for _ in range(count):
            once()
        gc.collect()
        self.assertEqual(mapped(), maps)
        self.assertEqual(len(os.listdir("/proc/self/fd")), files)
        # Of each cycle less than 16 KiB stay, which is below what the allocator moves to and fro.
        self.assertLess(resident() - before, max(count * (16 << 10), 4 << 20))


if __name__ == "__main__":
    unittest.main()
