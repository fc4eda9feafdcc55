"""What a home has to say about the next symbol: its models as experts, over tokens or over bytes."""
