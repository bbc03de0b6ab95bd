"""Names that are imported when first used."""

import importlib
import subprocess
import sys

import pytest

PACKAGES = ("anomaly_lib", "anomaly_lib.commands", "anomaly_lib.views")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_and_shown(package: str) -> None:
    module = importlib.import_module(package)
    assert sorted(set(module.__all__)) == sorted(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("package", PACKAGES)
def test_another_name_is_refused(package: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        importlib.import_module(package).nothing  # noqa: B018
    with pytest.raises(ImportError, match="nothing"):
        exec(f"from {package} import nothing")


def test_the_packages_alone_import_no_other_library() -> None:
    program = f"import sys, {', '.join(PACKAGES)}; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    for library in ("click", "matplotlib", "numpy", "pandas", "torch", "tqdm"):
        assert f"'{library}'" not in done.stdout
