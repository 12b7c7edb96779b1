"""The benchmark: cases named once, one module per question, one adapter per engine. README.md: how to run and read it."""
