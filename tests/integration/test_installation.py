#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""An installation by `meson install` is whole and works from where it lies: test_installation.py MESON BUILD VERSION CC CXX"""

import importlib.util
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest

MESON, BUILD, VERSION, CC, CXX = sys.argv[1:]
SOURCE = pathlib.Path(__file__).resolve().parents[2]

USE_OF_THE_LIBRARY = """
#include <errno.h>
#include <fdbroker.h>
int main(void) {
    struct fdbroker *broker = 0;
    return fdbroker_connect(&broker, "/no/such/opener.sock") == -ENOENT ? 0 : 1;
}
"""


def run(*command, **environment):
    """Standard output of a command that succeeds."""
    done = subprocess.run([str(word) for word in command], env=os.environ | environment, capture_output=True,
                          encoding="utf-8", check=False)
    if done.returncode != 0:
        raise AssertionError(f"{shlex.join(map(str, command))} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


class Installation(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = tempfile.TemporaryDirectory(prefix="fdb-install.", dir="/var/tmp")
        cls.addClassCleanup(cls.place.cleanup)
        cls.root = pathlib.Path(cls.place.name) / "root"
        run(*shlex.split(MESON), "install", "-C", BUILD, "--no-rebuild", DESTDIR=str(cls.root))

    def one(self, pattern):
        """The one installed file whose path ends like that."""
        found = list(self.root.glob("**/" + pattern))
        self.assertEqual(len(found), 1, f"{pattern}: {found}")
        return found[0]

    def pkg_config(self, *arguments):
        flags = run("pkg-config", *arguments, "fdbroker", PKG_CONFIG_PATH=str(self.one("fdbroker.pc").parent),
                    PKG_CONFIG_SYSROOT_DIR=str(self.root))
        return shlex.split(flags)

    def test_programs_tell_their_version(self):
        for name in ("sbin/opener", "bin/openerctl", "bin/worker"):
            self.assertIn(VERSION, run(self.one(name), "--version"))

    def test_every_manual_page_is_in_its_section(self):
        pages = [page for page in (SOURCE / "docs").iterdir() if page.suffix in {".1", ".3", ".5", ".8"}]
        self.assertTrue(pages)
        for page in pages:
            self.assertEqual(self.one(f"man{page.suffix[1:]}/{page.name}").read_bytes(), page.read_bytes())

    def test_every_function_has_a_manual_page(self):
        pages = self.one("man3/fdbroker.3").parent
        functions = re.findall(r"^ +(fdbroker_\w+);", (SOURCE / "worker/client/fdbroker.map").read_text(), re.MULTILINE)
        self.assertTrue(functions)
        for function in functions:
            self.assertEqual((pages / f"{function}.3").resolve(), (pages / "fdbroker.3").resolve())

    def test_guides_and_example_policies_are_there(self):
        place = self.one("doc/fdbroker/policies").parent
        for page in [*(SOURCE / "docs").glob("*.md"), *(SOURCE / "docs/policies").iterdir(), SOURCE / "proto/PROTOCOL.md",
                     SOURCE / "CHANGELOG.md"]:
            below = "policies" if page.suffix == ".yaml" else ""
            self.assertEqual((place / below / page.name).read_bytes(), page.read_bytes())

    def test_a_first_policy_is_there_and_is_never_replaced(self):
        policy = self.root / "etc/fdbroker/policy.yaml"
        self.assertTrue((policy.parent / "policy.d").is_dir())
        text = policy.read_text()
        self.assertNotIn("@", re.sub(r"#.*", "", text))
        policy.write_text("version: 1\n")
        self.addCleanup(policy.write_text, text)
        run(*shlex.split(MESON), "install", "-C", BUILD, "--no-rebuild", DESTDIR=str(self.root))
        self.assertEqual(policy.read_text(), "version: 1\n")

    def test_each_program_has_completions_for_each_shell(self):
        for program in ("opener", "openerctl", "worker"):
            for name in (f"bash-completion/completions/{program}", f"vendor-completions/_{program}",
                         f"vendor_completions.d/{program}.fish"):
                self.assertIn(program, self.one(name).read_text())

    def test_a_c_program_builds_with_either_library_and_runs(self):
        program = pathlib.Path(self.place.name) / "program"
        source = program.with_suffix(".c")
        source.write_text(USE_OF_THE_LIBRARY)
        run(*shlex.split(CC), source, "-o", program, *self.pkg_config("--cflags", "--libs"))
        run(program, LD_LIBRARY_PATH=str(self.one("libfdbroker.so").parent))
        whole = [flag.replace("-lfdbroker", "-l:libfdbroker.a") for flag in self.pkg_config("--static", "--cflags", "--libs")]
        run(*shlex.split(CC), source, "-o", program, *whole)
        run(program)

    @unittest.skipUnless(shutil.which("cmake"), "needs cmake")
    def test_cmake_finds_either_library(self):
        place = pathlib.Path(self.place.name) / "cmake"
        place.mkdir()
        (place / "program.c").write_text(USE_OF_THE_LIBRARY)
        (place / "CMakeLists.txt").write_text(f"""
            cmake_minimum_required(VERSION 3.13)
            project(program C)
            find_package(fdbroker {VERSION} REQUIRED)
            add_executable(shared program.c)
            target_link_libraries(shared fdbroker::fdbroker)
            add_executable(static program.c)
            target_link_libraries(static fdbroker::fdbroker_static)
        """)
        config = self.one("fdbroker-config.cmake").parent
        run("cmake", "-S", place, "-B", place / "build", f"-Dfdbroker_DIR={config}", "-DCMAKE_C_COMPILER=" + shlex.split(CC)[-1])
        run("cmake", "--build", place / "build")
        run(place / "build/shared")
        run(place / "build/static")
        (place / "CMakeLists.txt").write_text("""
            cmake_minimum_required(VERSION 3.13)
            project(program C)
            find_package(fdbroker 1.0)
            if(fdbroker_FOUND)
              message(FATAL_ERROR "another soname was taken")
            endif()
        """)
        run("cmake", "-S", place, "-B", place / "other", f"-Dfdbroker_DIR={config}", "-DCMAKE_C_COMPILER=" + shlex.split(CC)[-1])

    def compile(self, compiler, name, text, *options):
        source = pathlib.Path(self.place.name) / name
        source.write_text(text)
        return run(*shlex.split(compiler), *options, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", source,
                   *self.pkg_config("--cflags"))

    def test_the_header_for_c_needs_no_feature_macro(self):
        text = "#include <fdbroker.h>\nstruct fdbroker_attributes wanted;\nextern time_t now;\nenum {n = sizeof wanted.access.tv_nsec};\n"
        for standard in ("c99", "c11", "c17", "gnu99", "gnu17"):
            with self.subTest(standard):
                self.compile(CC, "header.c", text, f"-std={standard}")
        for standard in ("c++11", "c++17", "c++23"):
            with self.subTest(standard):
                self.compile(CXX, "c-header.cpp", text, f"-std={standard}")

    def test_the_header_for_cpp_stands_alone(self):
        self.compile(CXX, "header.cpp", "#include <fdbroker.hpp>\n", "-std=c++23")

    def test_the_header_for_cpp_says_which_standard_it_needs(self):
        for standard in ("c++17", "c++20"):
            with self.subTest(standard), self.assertRaisesRegex(AssertionError, "needs C\\+\\+23"):
                self.compile(CXX, "header.cpp", "#include <fdbroker.hpp>\n", f"-std={standard}")

    def test_the_python_module_is_whole(self):
        module = self.one("fdbroker/__init__.py")
        told = run(sys.executable, "-c", "import fdbroker; print(fdbroker.__file__)", PYTHONPATH=str(module.parents[1]),
                   PYTHONDONTWRITEBYTECODE="1")
        self.assertEqual(told.strip(), str(module))
        self.assertEqual({path.name for path in module.parent.iterdir()},
                         {path.name for path in (SOURCE / "worker/python/fdbroker").glob("*.py")} | {"py.typed"})

    @unittest.skipUnless(all(map(importlib.util.find_spec, ("pip", "setuptools", "wheel"))), "needs pip, setuptools and wheel")
    def test_pip_installs_the_python_module(self):
        source, target = pathlib.Path(self.place.name) / "python", pathlib.Path(self.place.name) / "site"
        shutil.copytree(SOURCE / "worker/python", source)
        run(sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "--no-index",
            "--target", target, source)
        told = run(sys.executable, "-c", "import fdbroker; print(fdbroker.__version__, fdbroker.__file__)",
                   PYTHONPATH=str(target))
        self.assertEqual(told.split(), [VERSION, str(target / "fdbroker/__init__.py")])
        self.assertTrue((target / "fdbroker/py.typed").is_file())

    def test_the_schemas_of_the_policy_language_are_what_openerctl_prints(self):
        for name, arguments in ("policy", []), ("policy-fragment", ["--fragment"]):
            printed = run(self.one("bin/openerctl"), "policy", "schema", *arguments)
            self.assertEqual(self.one(f"share/fdbroker/{name}.schema.json").read_text(encoding="utf-8"), printed)

    def test_the_service_starts_the_installed_opener(self):
        opener = "/" + str(self.one("sbin/opener").relative_to(self.root))
        for service in self.root.glob("**/fdbroker.service"):
            self.assertIn(f"ExecStart={opener}\n", service.read_text())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
