"""How members and a coordinator talk: sessions, the wire, letters, keys, and the collaborations themselves."""
