"""The program `restain`, and the model that it serves if there is no other."""

from .launch import run


def main():
    run(__file__)
