"""Operations: what is asked for, which agents it is for, and how it is shown."""
