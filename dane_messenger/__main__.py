"""`python -m dane_messenger` is `dane-messenger`."""

from dane_messenger.command import main

if __name__ == "__main__":
    main()
