CREATE TABLE single (writer, slot, n, text, PRIMARY KEY (writer, slot));
CREATE TABLE batch (writer, slot, half, n, text, PRIMARY KEY (writer, slot, half));
CREATE TABLE arrived (writer, n, text, PRIMARY KEY (writer, n));
