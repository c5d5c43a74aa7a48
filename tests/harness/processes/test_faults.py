"""Faults are told apart: those that another attempt may not meet, and those that it will."""

from __future__ import annotations

import errno
import os
import pickle
import tempfile
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch

from harness.errors import InputError
from harness.processes.faults import Fault, InfrastructureError, OutOfMemory, fault_of


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    """An exception as it is after it was raised, while another was handled and out of sight."""
    try:
        if cause is None:
            raise error
        try:
            raise cause
        except Exception:
            raise error from None
    except Exception as found:
        return found


@pytest.mark.parametrize(
    "number",
    [
        errno.EIO,
        errno.EROFS,
        errno.ESTALE,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.ENOTCONN,
        errno.ETIMEDOUT,
        errno.EAGAIN,
        errno.EFBIG,
    ],
)
def test_disks_mounts_and_room_are_infrastructure_also_behind_a_message_for_users(number: int) -> None:
    error = OSError(number, os.strerror(number), "/data/x.jpg")
    assert fault_of(raised(error)) == Fault("infrastructure", f"/data/x.jpg: {os.strerror(number)}")
    told = fault_of(raised(InputError("x.jpg: cannot be read; restore it"), error))
    assert told == Fault("infrastructure", "x.jpg: cannot be read; restore it")


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EISDIR, errno.ENAMETOOLONG])
def test_what_stays_as_it_is_is_not(number: int) -> None:
    assert fault_of(raised(OSError(number, os.strerror(number), "x"))).kind == "error"
    assert fault_of(raised(InputError("x is missing"), OSError(number, "no", "x"))).kind == "input"


def test_code_and_data_are_what_they_are() -> None:
    assert fault_of(raised(ZeroDivisionError("ouch\nhere"))) == Fault("error", "ZeroDivisionError: ouch here")
    assert fault_of(raised(InputError("x.jpg: truncated"))) == Fault("input", "x.jpg: truncated")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        # From cuDNN 9 on: cudnn_graph.h, cudnnStatus_t.
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        MemoryError(),
        RuntimeError("DataLoader worker (pid 4711) is killed by signal: Killed."),
        BrokenProcessPool("A process in the process pool was terminated abruptly"),
        RuntimeError("can't start new thread"),
        RuntimeError("unable to mmap 300000080 bytes from file </a.safetensors>: Cannot allocate memory (12)"),
        InfrastructureError("process 1 of the 2 of a training was ended by signal SIGKILL"),
    ],
)
def test_lost_processes_and_memory_outside_a_training_step_are_infrastructure(error: Exception) -> None:
    assert fault_of(raised(error)).kind == "infrastructure"


def test_a_training_that_is_out_of_memory_says_with_which_micro_batch_also_from_another_process() -> None:
    error = pickle.loads(pickle.dumps(OutOfMemory(3, 16, "CUDA out of memory.")))
    assert error.size == 16
    assert fault_of(raised(error, torch.OutOfMemoryError("CUDA out of memory."))) == Fault(
        "memory", "out of memory at step 3 in micro-batches of 16: CUDA out of memory."
    )


def test_too_little_shared_memory_is_told_as_that_and_not_tried_again() -> None:
    """The words of torch 2.13 and 2.11, from a process that loads data."""
    traceback = (
        "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  ...\n"
    )
    for said in (
        "unable to allocate shared memory(shm) for file </torch_18544_3603287196_0>: No space left on device (28)",
        "unable to write to file </torch_1_2_3>: No space left on device (28)",
    ):
        fault = fault_of(RuntimeError(f"{traceback}RuntimeError: {said}\n"))
        assert fault.kind == "input"
        assert fault.message.startswith(
            f"in a process that loads data: RuntimeError: {said}; there is too little shared memory"
        )


def test_a_library_that_cannot_be_loaded_is_told_with_its_causes_and_not_tried_again() -> None:
    fault = fault_of(ImportError("cv2.abi3.so: failed to map segment from shared object"))
    assert fault.kind == "input"
    assert "`ulimit -v`" in fault.message
    assert "noexec" in fault.message


def test_a_job_that_finds_no_folder_for_temporary_files_names_the_variable_that_says_where(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
    with pytest.raises(FileNotFoundError) as raised:
        tempfile.gettempdir()
    told = "No usable temporary directory found in ['/nowhere']: set TMPDIR to a folder that can be written"
    assert fault_of(raised.value) == Fault("input", told)


def test_a_lost_process_of_a_pool_and_a_thread_that_is_not_allowed_are_told_with_their_causes() -> None:
    assert "memory was short" in fault_of(BrokenProcessPool("terminated abruptly")).message
    assert "`ulimit -u`" in fault_of(RuntimeError("can't start new thread")).message


def test_an_error_in_a_process_that_loads_data_is_told_by_its_own_line() -> None:
    error = ValueError(
        "Caught ValueError in DataLoader worker process 3.\nOriginal Traceback ...\n\nValueError: no lane\n"
    )
    assert fault_of(error) == Fault("error", "in a process that loads data: ValueError: no lane")
