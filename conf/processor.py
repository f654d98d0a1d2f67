"""Measures the processor time of this process and of all processes that it started."""

import psutil


def processor_seconds() -> float:
    """Return the seconds of processor time that this process and its descendants have taken.

    On Linux, processes that have ended count where their parent has waited for them. So the difference of two calls is the
    time of the work between them, of Java as well, as long as what was started before still runs or was waited for.
    """
    this = psutil.Process()
    seconds = 0.0
    for process in [this, *this.children(recursive=True)]:
        try:
            seconds += sum(
                process.cpu_times()[:4]
            )  # user and system time, its own and that of ended children
        except psutil.Error:  # it has just ended, or may not be read
            continue
    return seconds
