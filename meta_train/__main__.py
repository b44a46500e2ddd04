"""`python -m meta_train`; see `meta_train.train`."""

from meta_train.interrupts import end_at_once_on_signals

if __name__ == "__main__":
    end_at_once_on_signals("the same command goes on from what is saved")
    from meta_train.train import run  # after the handlers: it imports for seconds

    run()
